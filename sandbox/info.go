package sandbox

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/podbox/podbox/internal/nsfs"
	"github.com/podbox/podbox/internal/proc"
	"github.com/podbox/podbox/netns"
	"github.com/podbox/podbox/netns/cni"
	"github.com/podbox/podbox/volumes"
)

// Info is what is known of a pod at one moment.
type Info struct {
	ID       string            `json:"id"`
	Name     string            `json:"name"`
	State    State             `json:"state"`
	Error    string            `json:"error,omitempty"` // what is wrong in state broken or degraded
	Created  time.Time         `json:"created"`
	Hostname string            `json:"hostname,omitempty"` // as members see it
	Domain   string            `json:"domain,omitempty"`
	Labels   map[string]string `json:"labels,omitempty"`
	// Annotations are shown as they were given.
	Annotations map[string]string `json:"annotations,omitempty"`
	Share       []Namespace       `json:"share"`
	Network     string            `json:"network"`
	IP          string            `json:"ip,omitempty"`
	IP6         string            `json:"ip6,omitempty"`
	MAC         string            `json:"mac,omitempty"`
	// Networks are the CNI networks that the pod is in, with what each has given it.
	Networks []cni.Result `json:"networks,omitempty"`
	// Link is the host's end of the pod's veth pair.
	Link  string       `json:"link,omitempty"`
	Ports []netns.Port `json:"ports,omitempty"`
	// Bandwidth is that of the link, in bits a second.
	Bandwidth netns.Bandwidth `json:"bandwidth,omitzero"`
	// Policy says who connects with the pod.
	Policy  netns.Policy      `json:"policy,omitzero"`
	ShmSize int64             `json:"shmSize,omitempty"` // bytes
	Sysctls map[string]string `json:"sysctls,omitempty"`
	DNS     DNS               `json:"dns,omitzero"`
	Hosts   []Host            `json:"hosts,omitempty"`
	// Volumes are the pod's, without the contents of files.
	Volumes []volumes.Volume `json:"volumes,omitempty"`
	Limits  Limits           `json:"limits,omitzero"`
	Cgroup  string           `json:"cgroup"`
	// PausePID is 0 unless the pause lives.
	PausePID int `json:"pausePID,omitempty"`
	// Namespaces are paths by which the pod's namespaces can be joined, by
	// kind; empty unless the pause lives.
	Namespaces map[string]string `json:"namespaces,omitempty"`
	// Dir is the pod's directory below the runtime's root.
	Dir string `json:"dir"`
}

func (rt *Runtime) info(rec *record, l *look) *Info {
	i := &Info{
		ID: rec.ID, Name: rec.Spec.Name, Created: rec.Created, Error: rec.Error,
		Hostname: rec.Spec.hostname(), Domain: rec.Spec.Domain, Labels: rec.Spec.Labels, Annotations: rec.Spec.Annotations, Share: rec.Spec.Share,
		Network: rec.Spec.Network.String(), MAC: rec.Address.MAC, Networks: rec.Networks,
		Ports: rec.Spec.Ports, Bandwidth: rec.Spec.Bandwidth, Policy: rec.Spec.Policy, ShmSize: rec.Spec.ShmSize, Sysctls: rec.Spec.Sysctls, DNS: rec.Spec.DNS, Hosts: rec.Spec.Hosts,
		Volumes: withoutContents(rec.Spec.Volumes), Limits: rec.Spec.Limits,
		Cgroup: parentGroup(rt.root) + "/" + rec.ID, Dir: rt.podDir(rec.ID),
	}
	if rec.Address.IP.IsValid() {
		i.IP = rec.Address.IP.String()
	}
	if rec.Address.IP6.IsValid() {
		i.IP6 = rec.Address.IP6.String()
	}
	if rec.wired() {
		i.Link = rec.link()
	}
	var alive bool
	i.State, alive, i.Error = state(rec, l)
	if rec.plugged() && i.State == Stopped {
		// It has given them back, and will but ask for them again.
		i.IP, i.IP6, i.MAC, i.Networks = "", "", "", nil
	}
	if i.State == Running && rt.frozen(rec.ID) {
		i.State = Paused
	}
	if alive {
		i.PausePID = rec.Pause.PID
		i.Namespaces = make(map[string]string)
		for _, n := range rec.Spec.Share {
			i.Namespaces[string(n)] = nsfs.Path(rec.Pause.PID, string(n))
		}
	}
	return i
}

// withoutContents returns volumes as they may be shown: files may be secrets.
func withoutContents(vs []volumes.Volume) []volumes.Volume {
	vs = slices.Clone(vs)
	for i := range vs {
		if vs[i].Files == nil {
			continue
		}
		files := *vs[i].Files
		files.Entries = slices.Clone(files.Entries)
		for n := range files.Entries {
			files.Entries[n].Content = nil
		}
		vs[i].Files = &files
	}
	return vs
}

// state finds out what is true of a pod whose record says what was intended;
// alive says whether its pause is.
func state(rec *record, l *look) (s State, alive bool, why string) {
	if rec.State != Running {
		return rec.State, false, rec.Error
	}
	pidfd, err := openPause(rec)
	if err == nil {
		pidfd.Close()
		if rec.wired() && !netns.Connected(rec.link()) {
			return Degraded, true, "link " + rec.link() + " is gone"
		}
		if rec.Rewiring && rec.plugged() {
			return Degraded, true, "its CNI networks are not finished"
		}
		if rec.Rewiring {
			return Degraded, true, "link " + rec.link() + " is not finished"
		}
		return Running, true, ""
	}
	if !errors.Is(err, proc.ErrGone) {
		return Degraded, false, err.Error()
	}
	ms, err := l.members(rec, false)
	if err != nil {
		return Degraded, false, err.Error()
	}
	defer ms.close()
	if len(ms) > 0 {
		return Degraded, false, fmt.Sprintf("pause %d is gone, processes that remain: %d", rec.Pause.PID, len(ms))
	}
	return Stopped, false, ""
}

// A Sandbox is one pod. It is a name for it, not a hold on it: it owns nothing
// and needs no closing, and other processes may change or remove the pod at any
// time.
type Sandbox struct {
	rt  *Runtime
	id  string
	ref string // what the user calls it; for errors
}

// Shares reports whether the pod's members share their namespaces of a kind.
func (s *Sandbox) Shares(n Namespace) (bool, error) {
	rec, err := s.record()
	return err == nil && rec.Spec.shares(n), err
}

// Runtime returns the runtime that the pod belongs to.
func (s *Sandbox) Runtime() *Runtime { return s.rt }

// ID returns the pod's ID, 64 hexadecimal digits.
func (s *Sandbox) ID() string { return s.id }

// Ref returns what the pod is called by whoever has opened it.
func (s *Sandbox) Ref() string { return s.ref }

// String returns what errors call the pod: pod "web".
func (s *Sandbox) String() string { return fmt.Sprintf("pod %q", s.ref) }

// Info looks at the pod. ErrNotFound if it was removed.
func (s *Sandbox) Info() (*Info, error) {
	rec, err := s.record()
	if err != nil {
		return nil, err
	}
	return s.rt.info(rec, s.rt.looks.fresh()), nil
}

// Namespaces returns the namespaces that members share, in the form of an OCI
// runtime configuration: an OCI runtime that is given them joins the pod. They
// are empty unless the pod runs. The paths are good for as long as it does.
func (s *Sandbox) Namespaces() []specs.LinuxNamespace {
	i, err := s.Info()
	if err != nil {
		return nil
	}
	var out []specs.LinuxNamespace
	for _, n := range allNamespaces {
		if path, ok := i.Namespaces[string(n)]; ok {
			out = append(out, specs.LinuxNamespace{Type: ociType[n], Path: path})
		}
	}
	return out
}

var ociType = map[Namespace]specs.LinuxNamespaceType{
	Net: specs.NetworkNamespace, IPC: specs.IPCNamespace, UTS: specs.UTSNamespace, PID: specs.PIDNamespace,
}

// File returns the path of one of the pod's files: hosts, resolv.conf or
// hostname. It may not exist.
func (s *Sandbox) File(name string) string { return filepath.Join(s.rt.podDir(s.id), name) }

func (s *Sandbox) record() (*record, error) {
	rec, err := readRecord(s.rt.podDir(s.id))
	return rec, s.wrap("", notFound(err))
}

// wrap says which pod an error is about.
func (s *Sandbox) wrap(verb string, err error) error {
	if err == nil {
		return nil
	}
	if verb != "" {
		verb += " "
	}
	return fmt.Errorf("%s%v: %w", verb, s, err)
}
