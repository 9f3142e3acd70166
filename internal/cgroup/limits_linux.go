package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"strings"

	"github.com/opencontainers/cgroups"
	devices "github.com/opencontainers/cgroups/devices/config"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// A MissingError says that a limit was asked for that nothing on this machine would
// enforce. It is errors.ErrUnsupported.
type MissingError struct {
	Field      string // as in a config.json: "linux.resources.memory.limit"
	Controller string // "memory"
	Err        error  // why
}

func (e *MissingError) Error() string {
	return fmt.Sprintf("%s: controller %s: %v", e.Field, e.Controller, e.Err)
}
func (e *MissingError) Unwrap() error        { return e.Err }
func (e *MissingError) Is(target error) bool { return target == errors.ErrUnsupported }

// A limit is all that one controller is asked for.
type limit struct {
	controller string // its v1 name
	fields     []field
	// As the library writes it.
	cgroups.Resources
	// Swap was not asked for: it is given where the kernel accounts for it.
	swapUnasked bool
}

// A field is one that was asked for, and the file by which the kernel serves it, or
// several of which one does, with a | between; "" where none does.
type field struct {
	name   string // below linux.resources
	v1, v2 string
}

func newLimit(controller string) *limit {
	return &limit{controller: controller, Resources: cgroups.Resources{SkipDevices: true}}
}

func (l *limit) ask(name, v1, v2 string) { l.fields = append(l.fields, field{name, v1, v2}) }

// take returns the value of an optional field, and notes that it was asked for.
func take[T comparable](l *limit, p *T, name, v1, v2 string) T {
	var zero T
	if p == nil || *p == zero {
		return zero
	}
	l.ask(name, v1, v2)
	return *p
}

// compile sorts what is asked for by controller. It looks at nothing but r.
func compile(r *specs.LinuxResources) ([]*limit, error) {
	if r == nil {
		return nil, nil
	}
	rules, err := deviceLimit(r.Devices)
	if err != nil {
		return nil, err
	}
	huge, err := hugetlbLimit(r.HugepageLimits)
	if err != nil {
		return nil, err
	}
	all := []*limit{
		rules, pidsLimit(r.Pids), memoryLimit(r.Memory), cpuLimit(r.CPU), cpusetLimit(r.CPU), blkioLimit(r.BlockIO), huge,
	}
	if n := r.Network; n != nil {
		class, prio := newLimit("net_cls"), newLimit("net_prio")
		take(class, n.ClassID, "network.classID", "", "")
		if len(n.Priorities) > 0 {
			prio.ask("network.priorities", "", "")
		}
		all = append(all, class, prio)
	}
	if len(r.Rdma) > 0 {
		rdma := newLimit("rdma")
		rdma.ask("rdma", "", "")
		all = append(all, rdma)
	}
	all = append(all, unifiedLimits(r.Unified)...)
	var asked []*limit
	for _, l := range all {
		if len(l.fields) > 0 {
			asked = append(asked, l)
		}
	}
	return asked, nil
}

func deviceLimit(rules []specs.LinuxDeviceCgroup) (*limit, error) {
	l := newLimit("devices")
	if len(rules) == 0 {
		return l, nil
	}
	// On v2 the rules are a program, which any group can have.
	l.ask("devices", "devices.allow", "cgroup.procs")
	l.SkipDevices = false
	// Everything is denied that no rule allows. The library says so too, but
	// forgives a kernel that does not take the program if no rule denies.
	l.Devices = []*devices.Rule{{Type: devices.WildcardDevice, Major: devices.Wildcard, Minor: devices.Wildcard, Permissions: "rwm"}}
	for i, r := range rules {
		rule, err := deviceRule(r)
		if err != nil {
			return nil, fmt.Errorf("linux.resources.devices[%d]: %w", i, err)
		}
		l.Devices = append(l.Devices, rule)
	}
	return l, nil
}

func deviceRule(r specs.LinuxDeviceCgroup) (*devices.Rule, error) {
	rule := &devices.Rule{
		Type: devices.WildcardDevice, Major: devices.Wildcard, Minor: devices.Wildcard,
		Permissions: devices.Permissions(r.Access), Allow: r.Allow,
	}
	if r.Type != "" {
		rule.Type = devices.Type(r.Type[0])
	}
	if len(r.Type) > 1 || !rule.Type.CanCgroup() {
		return nil, fmt.Errorf("type %q: %w", r.Type, fs.ErrInvalid)
	}
	if r.Major != nil {
		rule.Major = *r.Major
	}
	if r.Minor != nil {
		rule.Minor = *r.Minor
	}
	if min(rule.Major, rule.Minor) < devices.Wildcard || max(rule.Major, rule.Minor) > math.MaxUint32 {
		return nil, fmt.Errorf("device %d:%d: %w", rule.Major, rule.Minor, fs.ErrInvalid)
	}
	if rule.Permissions.IsEmpty() || !rule.Permissions.IsValid() {
		return nil, fmt.Errorf("access %q: %w", r.Access, fs.ErrInvalid)
	}
	return rule, nil
}

func pidsLimit(p *specs.LinuxPids) *limit {
	l := newLimit("pids")
	if p != nil && p.Limit != nil {
		l.ask("pids.limit", "pids.max", "pids.max")
		l.PidsLimit = p.Limit
	}
	return l
}

const (
	swapV1 = "memory.memsw.limit_in_bytes"
	swapV2 = "memory.swap.max"
)

func memoryLimit(m *specs.LinuxMemory) *limit {
	l := newLimit("memory")
	if m == nil {
		return l
	}
	l.Memory = take(l, m.Limit, "memory.limit", "memory.limit_in_bytes", "memory.max")
	l.MemoryReservation = take(l, m.Reservation, "memory.reservation", "memory.soft_limit_in_bytes", "memory.low")
	l.MemorySwap = take(l, m.Swap, "memory.swap", swapV1, swapV2)
	if l.Memory > 0 && l.MemorySwap == 0 {
		l.swapUnasked = true
		l.MemorySwap = -1
		if l.Memory <= math.MaxInt64/2 {
			l.MemorySwap = 2 * l.Memory
		}
	}
	//lint:ignore SA1019 what is refused must be looked at
	take(l, m.Kernel, "memory.kernel", "", "")
	take(l, m.KernelTCP, "memory.kernelTCP", "", "")
	if m.Swappiness != nil {
		l.ask("memory.swappiness", "memory.swappiness", "")
		l.MemorySwappiness = m.Swappiness
	}
	l.OomKillDisable = take(l, m.DisableOOMKiller, "memory.disableOOMKiller", "memory.oom_control", "")
	// On v1 the kernel checks. UseHierarchy says what is always so.
	l.MemoryCheckBeforeUpdate = m.CheckBeforeUpdate != nil && *m.CheckBeforeUpdate
	return l
}

func cpuLimit(c *specs.LinuxCPU) *limit {
	l := newLimit("cpu")
	if c == nil {
		return l
	}
	l.CpuShares = take(l, c.Shares, "cpu.shares", "cpu.shares", "cpu.weight")
	l.CpuWeight = cgroups.ConvertCPUSharesToCgroupV2Value(l.CpuShares)
	l.CpuQuota = take(l, c.Quota, "cpu.quota", "cpu.cfs_quota_us", "cpu.max")
	l.CpuPeriod = take(l, c.Period, "cpu.period", "cpu.cfs_period_us", "cpu.max")
	l.CpuRtRuntime = take(l, c.RealtimeRuntime, "cpu.realtimeRuntime", "cpu.rt_runtime_us", "")
	l.CpuRtPeriod = take(l, c.RealtimePeriod, "cpu.realtimePeriod", "cpu.rt_period_us", "")
	if c.Burst != nil {
		l.ask("cpu.burst", "cpu.cfs_burst_us", "cpu.max.burst")
		l.CpuBurst = c.Burst
	}
	if c.Idle != nil {
		l.ask("cpu.idle", "cpu.idle", "cpu.idle")
		l.CPUIdle = c.Idle
	}
	return l
}

func cpusetLimit(c *specs.LinuxCPU) *limit {
	l := newLimit("cpuset")
	if c != nil {
		l.CpusetCpus = take(l, &c.Cpus, "cpu.cpus", "cpuset.cpus|cpus", "cpuset.cpus")
		l.CpusetMems = take(l, &c.Mems, "cpu.mems", "cpuset.mems|mems", "cpuset.mems")
	}
	return l
}

func blkioLimit(b *specs.LinuxBlockIO) *limit {
	l := newLimit("blkio")
	if b == nil {
		return l
	}
	l.BlkioWeight = take(l, b.Weight, "blockIO.weight", "blkio.weight|blkio.bfq.weight", "io.bfq.weight|io.weight")
	l.BlkioLeafWeight = take(l, b.LeafWeight, "blockIO.leafWeight", "blkio.leaf_weight", "")
	for _, d := range b.WeightDevice {
		weight := take(l, d.Weight, "blockIO.weightDevice", "blkio.weight_device|blkio.bfq.weight_device", "io.bfq.weight")
		leaf := take(l, d.LeafWeight, "blockIO.weightDevice", "blkio.leaf_weight_device", "")
		l.BlkioWeightDevice = append(l.BlkioWeightDevice, cgroups.NewWeightDevice(d.Major, d.Minor, weight, leaf))
	}
	throttle := func(devices []specs.LinuxThrottleDevice, name, v1 string) []*cgroups.ThrottleDevice {
		var all []*cgroups.ThrottleDevice
		for _, d := range devices {
			all = append(all, cgroups.NewThrottleDevice(d.Major, d.Minor, d.Rate))
		}
		if all != nil {
			l.ask("blockIO."+name, "blkio.throttle."+v1, "io.max")
		}
		return all
	}
	l.BlkioThrottleReadBpsDevice = throttle(b.ThrottleReadBpsDevice, "throttleReadBpsDevice", "read_bps_device")
	l.BlkioThrottleWriteBpsDevice = throttle(b.ThrottleWriteBpsDevice, "throttleWriteBpsDevice", "write_bps_device")
	l.BlkioThrottleReadIOPSDevice = throttle(b.ThrottleReadIOPSDevice, "throttleReadIOPSDevice", "read_iops_device")
	l.BlkioThrottleWriteIOPSDevice = throttle(b.ThrottleWriteIOPSDevice, "throttleWriteIOPSDevice", "write_iops_device")
	return l
}

func hugetlbLimit(limits []specs.LinuxHugepageLimit) (*limit, error) {
	l := newLimit("hugetlb")
	for i, h := range limits {
		if h.Pagesize == "" || strings.ContainsAny(h.Pagesize, "/|\x00") {
			return nil, fmt.Errorf("linux.resources.hugepageLimits[%d]: page size %q: %w", i, h.Pagesize, fs.ErrInvalid)
		}
		file := "hugetlb." + h.Pagesize
		l.ask(fmt.Sprintf("hugepageLimits[%d]", i), file+".limit_in_bytes", file+".max")
		l.HugetlbLimit = append(l.HugetlbLimit, &cgroups.HugepageLimit{Pagesize: h.Pagesize, Limit: h.Limit})
	}
	return l, nil
}

// unifiedLimits come last: they are files of v2 by their names, and win over what
// other fields say of the same file.
func unifiedLimits(files map[string]string) []*limit {
	byController := map[string]*limit{}
	var all []*limit
	for file, value := range files {
		controller, _, _ := strings.Cut(file, ".")
		l := byController[controller]
		if l == nil {
			l = newLimit(controller)
			l.Unified = map[string]string{}
			byController[controller] = l
			all = append(all, l)
		}
		l.ask("unified["+file+"]", "", file)
		l.Unified[file] = value
	}
	return all
}
