package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/cmd/internal/exit"
	"github.com/podbox/podbox/cmd/internal/form"
	"github.com/podbox/podbox/cmd/internal/twin"
	"github.com/podbox/podbox/internal/cgroup"
	"github.com/podbox/podbox/internal/mnt"
	"github.com/podbox/podbox/internal/nsthread"
	"github.com/podbox/podbox/netns"
	"github.com/podbox/podbox/sandbox"
)

// A check is one thing that podbox needs of a host, or does better with.
type check struct {
	Name string `json:"name"`
	// Status is ok, warn (podbox works, with less) or fail.
	Status string `json:"status"`
	Detail string `json:"detail,omitempty"`
	Cure   string `json:"cure,omitempty"`
}

func (a *app) doctor() *cobra.Command {
	var (
		out form.Choice
		cni cniFlags
	)
	cmd := &cobra.Command{
		Use:   "doctor [flags]",
		Short: "Tell what this host lacks, each with its cure",
		Long: `Try what podbox does, in namespaces of its own that end with it, and tell what
does not work and what to do about it. The exit status is 1 if something fails
without which podbox cannot work.`,
		Example: `  sudo podbox doctor
  sudo podbox doctor -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			t, err := out.Parse()
			if err != nil {
				return err
			}
			checks := append(a.examine(), cni.wantCNI(cmd.Context()))
			w := cmd.OutOrStdout()
			switch {
			case t != nil:
				err = form.Each(w, t, checks)
			case out.Form != "table":
				err = form.Encode(w, out.Form, checks)
			default:
				var rows [][]string
				for _, c := range checks {
					rows = append(rows, []string{c.Status, c.Name, form.Dash(c.Detail), form.Dash(c.Cure)})
				}
				err = form.Table(w, []string{"STATUS", "CHECK", "FOUND", "CURE"}, rows)
			}
			if err != nil {
				return err
			}
			for _, c := range checks {
				if c.Status == "fail" {
					return exit.Status(1)
				}
			}
			return nil
		},
	}
	out.Flags(cmd, "table", "json", "yaml")
	cni.add(cmd.Flags())
	return cmd
}

func (a *app) examine() []check {
	return []check{
		need("root", needRoot(), "run it with sudo"),
		need("capabilities", needCapabilities(), "run podbox on the host itself, or in a container with these capabilities"),
		checkKernel(),
		need("mounts by descriptor", nsthread.Do(tryMounts), "podbox needs Linux 5.15, and no seccomp filter that hides the mount system calls"),
		need("veth", nsthread.Do(tryVeth), "load the veth module, or build the kernel with CONFIG_VETH"),
		need("IPC namespace", nsthread.Do(tryIPC), "build the kernel with CONFIG_IPC_NS and CONFIG_POSIX_MQUEUE"),
		need("executable memfd", tryMemfd(), "sysctl vm.memfd_noexec=0 or 1"),
		want("cgroups", wantCgroups(), "mount cgroup v2 at /sys/fs/cgroup, as systemd does; without them no container starts"),
		want("seccomp", wantSeccomp(), "build the kernel with CONFIG_SECCOMP_FILTER; without it give containers --security-opt seccomp=unconfined"),
		want("capabilities for containers", haveCapabilities(
			capability{"CAP_MKNOD", unix.CAP_MKNOD}, capability{"CAP_CHOWN", unix.CAP_CHOWN}, capability{"CAP_FOWNER", unix.CAP_FOWNER},
			capability{"CAP_FSETID", unix.CAP_FSETID}, capability{"CAP_SETFCAP", unix.CAP_SETFCAP}, capability{"CAP_NET_BIND_SERVICE", unix.CAP_NET_BIND_SERVICE},
		), "run podbox with them; without CAP_MKNOD no container with a root of its own starts"),
		want("IPv6", wantIPv6(), "sysctl net.ipv6.conf.all.disable_ipv6=0 net.ipv6.conf.default.disable_ipv6=0; without it pods have IPv4 only"),
		want("IPv6 forwarding per link", wantForwarding(), "none needed: before Linux 6.17 podbox turns net.ipv6.conf.all.forwarding on"),
		want("nftables", nsthread.Do(tryRules), "load nf_tables, nft_nat, nft_masq and nft_fib_inet, or build the kernel with CONFIG_NF_TABLES_INET, CONFIG_NFT_NAT, CONFIG_NFT_MASQ, CONFIG_NFT_FIB_INET; without them pods have no way beyond the host and no published ports"),
		wantWay(),
		want("ports at ::1", wantLoopback6(), "mount cgroup v2 at /sys/fs/cgroup, with a kernel from 5.14 on that has CONFIG_CGROUP_BPF, and run podbox with CAP_BPF; without it what pods publish is reached by 127.0.0.1 and all other addresses of the host, not by ::1"),
		want("resolvers", sandbox.CheckResolvers(), "give pods others: podbox create --dns; one of the host that listens on all addresses is at 169.254.1.1"),
		want("memory-backed root", a.wantTmpfs(), "put --root on a tmpfs such as /run: records are of one boot"),
		want("/dev/mqueue", wantPath("/dev/mqueue"), "mount it as systemd does; without it programs on the host's filesystem use message queues but cannot list them"),
		want("pause protected from OOM", wantResource(), "run podbox with CAP_SYS_RESOURCE; without it the kernel may choose a pause when memory is short"),
		want("podbox-kube", wantKube(), "install it beside podbox: make install; without it podbox has no images"),
		want("address range", wantRange(), "give podbox create a free --ip-range"),
	}
}

func wantKube() error {
	_, err := twin.Path(twin.Kube)
	return err
}

func wantCgroups() error {
	g, err := cgroup.Open(fmt.Sprintf("/podbox-doctor-%d", os.Getpid()))
	if err != nil {
		return err
	}
	err = g.Create(sandbox.Limits{Memory: 1 << 30, CPU: 1000, PIDs: 100}.Resources())
	return errors.Join(err, g.Remove(context.Background()))
}

// wantSeccomp asks whether there are filters; PR_SET_SECCOMP(2const): a filter at no
// address is EFAULT where they are known.
func wantSeccomp() error {
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, 0, 0, 0); err != unix.EFAULT {
		return os.NewSyscallError("prctl PR_SET_SECCOMP", err)
	}
	return nil
}

func need(name string, err error, cure string) check { return judge(name, "fail", err, cure) }
func want(name string, err error, cure string) check { return judge(name, "warn", err, cure) }

func judge(name, bad string, err error, cure string) check {
	if err == nil {
		return check{Name: name, Status: "ok"}
	}
	return check{Name: name, Status: bad, Detail: err.Error(), Cure: cure}
}

func needRoot() error {
	if uid := os.Geteuid(); uid != 0 {
		return fmt.Errorf("user ID %d", uid)
	}
	return nil
}

// A capability is one of capabilities(7).
type capability struct {
	name string
	bit  int
}

func needCapabilities() error {
	return haveCapabilities(
		capability{"CAP_SYS_ADMIN", unix.CAP_SYS_ADMIN}, capability{"CAP_NET_ADMIN", unix.CAP_NET_ADMIN},
		capability{"CAP_SYS_PTRACE", unix.CAP_SYS_PTRACE}, capability{"CAP_SYS_CHROOT", unix.CAP_SYS_CHROOT},
		capability{"CAP_KILL", unix.CAP_KILL}, capability{"CAP_SETUID", unix.CAP_SETUID},
		capability{"CAP_SETGID", unix.CAP_SETGID}, capability{"CAP_SETPCAP", unix.CAP_SETPCAP},
		capability{"CAP_DAC_OVERRIDE", unix.CAP_DAC_OVERRIDE},
	)
}

// haveCapabilities compares the effective set with what is wanted.
func haveCapabilities(wanted ...capability) error {
	var data [2]unix.CapUserData
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if err := unix.Capget(&header, &data[0]); err != nil {
		return os.NewSyscallError("capget", err)
	}
	var missing []string
	for _, c := range wanted {
		if data[c.bit/32].Effective&(1<<(c.bit%32)) == 0 {
			missing = append(missing, c.name)
		}
	}
	if len(missing) > 0 {
		return errors.New("missing " + strings.Join(missing, ", "))
	}
	return nil
}

// checkKernel asks whether the kernel can do, and then whether it is one of those that
// podbox is tested on. An older one may have by its distribution what it takes.
func checkKernel() check {
	const name = "kernel"
	if err := needKernel(); err != nil {
		return need(name, err, "podbox needs Linux 5.15 or newer")
	}
	return want(name, testedKernel(), "none needed if pods work; podbox is tested on Linux 5.15 and newer")
}

func testedKernel() error {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return os.NewSyscallError("uname", err)
	}
	release := unix.ByteSliceToString(u.Release[:])
	var major, minor int
	if _, err := fmt.Sscanf(release, "%d.%d", &major, &minor); err != nil {
		return fmt.Errorf("kernel %s: %w", release, err)
	}
	if major < 5 || major == 5 && minor < 15 {
		return fmt.Errorf("kernel %s is older than those that podbox is tested on", release)
	}
	return nil
}

// needKernel asks for the youngest system call that podbox cannot do without.
func needKernel() error {
	err := unix.MountSetattr(-1, "", unix.AT_EMPTY_PATH, &unix.MountAttr{})
	if err == unix.ENOSYS {
		var u unix.Utsname
		_ = unix.Uname(&u)
		return fmt.Errorf("kernel %s has no mount_setattr", unix.ByteSliceToString(u.Release[:]))
	}
	return nil
}

func tryMounts() error {
	if err := nsthread.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return err
	}
	if err := mnt.Propagate(unix.MS_SLAVE); err != nil {
		return err
	}
	m, err := mnt.New("tmpfs", 0)
	if err != nil {
		return err
	}
	defer m.Close()
	return mnt.Attach(m, "/proc")
}

func tryVeth() error {
	if err := nsthread.Unshare(unix.CLONE_NEWNET); err != nil {
		return err
	}
	pod, err := netns.Create()
	if err != nil {
		return err
	}
	defer pod.Close()
	return netns.Connect(pod, netns.LinkName(strings.Repeat("0", 64)), netns.Address{
		IP: netns.DefaultRange.Addr().Next().Next(), MAC: netns.MACFor(strings.Repeat("0", 64)),
	}, 1500)
}

func tryRules() error {
	if err := nsthread.Unshare(unix.CLONE_NEWNET); err != nil {
		return err
	}
	return netns.Rules{Table: netns.DefaultTable}.Replace(nil, netns.Uplinks{})
}

func wantLoopback6() error {
	if !netns.IPv6() {
		return nil // then there is no ::1
	}
	return netns.Loopback6{Name: netns.LoopbackName(netns.DefaultTable)}.Usable()
}

// wantWay asks what stands in the way of packets from and to pods.
func wantWay() check {
	const name = "way for packets"
	found, err := netns.Hindrances()
	if err != nil || len(found) == 0 {
		return want(name, err, "see nftables")
	}
	c := check{Name: name, Status: "warn"}
	var what, cures []string
	for _, h := range found {
		what = append(what, h.What)
		if !slices.Contains(cures, h.Cure) {
			cures = append(cures, h.Cure)
		}
	}
	c.Detail, c.Cure = strings.Join(what, "; "), strings.Join(cures, "; ")
	return c
}

func tryIPC() error {
	if err := nsthread.Unshare(unix.CLONE_NEWIPC | unix.CLONE_NEWUTS); err != nil {
		return err
	}
	m, err := mnt.New("mqueue", 0)
	if err != nil {
		return err
	}
	return m.Close()
}

func tryMemfd() error {
	b, err := os.ReadFile("/proc/sys/vm/memfd_noexec")
	if err == nil && strings.TrimSpace(string(b)) == "2" {
		return errors.New("vm.memfd_noexec is 2")
	}
	return nil
}

func wantIPv6() error {
	if !netns.IPv6() {
		return errors.New("off")
	}
	return nil
}

func wantForwarding() error {
	if _, err := os.Stat("/proc/sys/net/ipv6/conf/all/force_forwarding"); err != nil && netns.IPv6() {
		return errors.New("the kernel has it for the whole host only")
	}
	return nil
}

func (a *app) wantTmpfs() error {
	for _, dir := range []string{a.Root, "/run"} {
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err != nil {
			continue
		}
		if st.Type != unix.TMPFS_MAGIC && st.Type != unix.RAMFS_MAGIC {
			return errors.New(dir + " is on a disk")
		}
		return nil
	}
	return nil
}

func wantPath(path string) error {
	_, err := os.Stat(path)
	return err
}

func wantResource() error {
	return haveCapabilities(capability{"CAP_SYS_RESOURCE", unix.CAP_SYS_RESOURCE})
}

func wantRange() error {
	err := netns.Free(netns.DefaultRange.Addr().Next().Next())
	if errors.Is(err, netns.ErrInUse) {
		return nil
	}
	return err
}
