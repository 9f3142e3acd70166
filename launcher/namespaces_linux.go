package launcher

import (
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/nsthread"
	"github.com/podbox/podbox/sandbox"
)

var namespaceFlags = map[specs.LinuxNamespaceType]int{
	specs.NetworkNamespace: unix.CLONE_NEWNET, specs.IPCNamespace: unix.CLONE_NEWIPC, specs.UTSNamespace: unix.CLONE_NEWUTS,
	specs.PIDNamespace: unix.CLONE_NEWPID, specs.CgroupNamespace: unix.CLONE_NEWCGROUP, specs.TimeNamespace: unix.CLONE_NEWTIME,
	specs.MountNamespace: unix.CLONE_NEWNS, specs.UserNamespace: unix.CLONE_NEWUSER,
}

// namespaces says which namespaces a program is in. A kind that its spec does not
// list is the pod's if the pod shares it, else the host's.
type namespaces struct {
	pod    int        // those of the pod, as CLONE_NEW… flags
	paths  []*os.File // those that are joined by a path, but for the next
	cgroup *os.File   // the cgroup namespace that the child joins; nil for none
	fresh  int        // those that are made
	listed int        // those of paths and fresh
}

// openNamespaces opens what a spec names by path. Whatever it lists it does not
// share with the pod.
func openNamespaces(l *specs.Linux) (*namespaces, error) {
	ns := &namespaces{pod: -1}
	if l == nil {
		return ns, nil
	}
	for _, n := range l.Namespaces {
		flag := namespaceFlags[n.Type]
		ns.pod &^= flag
		ns.listed |= flag
		if n.Path == "" {
			ns.fresh |= flag
			continue
		}
		f, err := os.Open(n.Path)
		if err == nil {
			if flag == unix.CLONE_NEWCGROUP {
				ns.cgroup = f
			} else {
				ns.paths = append(ns.paths, f)
			}
			err = isNamespace(f, flag)
		}
		if err != nil {
			ns.close()
			return nil, fmt.Errorf("linux.namespaces: %s: %w", n.Type, err)
		}
	}
	return ns, nil
}

func isNamespace(f *os.File, flag int) error {
	got, err := unix.IoctlRetInt(int(f.Fd()), unix.NS_GET_NSTYPE)
	if err != nil || got != flag {
		return fmt.Errorf("%s: %w: not a namespace of this kind", f.Name(), ErrInvalid)
	}
	return nil
}

func (ns *namespaces) close() {
	_ = ns.cgroup.Close() // which may be nil
	for _, f := range ns.paths {
		f.Close()
	}
}

// joins reports whether the program shares the pod's namespace of a kind.
func (ns *namespaces) joins(flag int) bool { return ns.pod&flag != 0 }

// born are the kinds that a child must be born in, rather than its parent's thread
// moved to.
const born = unix.CLONE_NEWPID

// late are the kinds that the child enters when all else is done. From a cgroup namespace
// the kernel lets nobody into a group if either that or the one he comes from lies
// outside of it, where the hierarchy is mounted with nsdelegate, as systemd does
// (cgroup_attach_permissions): whoever is to be born in a group cannot have a parent there.
const late = unix.CLONE_NEWUSER | unix.CLONE_NEWCGROUP

// enter moves the calling thread into the namespaces, and into a copy of the pause's
// mount namespace if the program has a root of its own. The thread has shared its
// working directory with nobody.
func (ns *namespaces) enter(entry *sandbox.Entry, mounts bool) error {
	ns.pod &= entry.Flags
	flags := ns.pod
	if mounts {
		flags |= unix.CLONE_NEWNS
	}
	if flags != 0 {
		if err := nsthread.Join(entry.Pause, flags); err != nil {
			return err
		}
	}
	for _, f := range ns.paths {
		if err := nsthread.Join(f, 0); err != nil {
			return fmt.Errorf("%s: %w", f.Name(), err)
		}
	}
	fresh := ns.fresh &^ (born | late | unix.CLONE_NEWNS)
	if mounts {
		fresh |= unix.CLONE_NEWNS
	}
	if fresh == 0 {
		return nil
	}
	return nsthread.Unshare(fresh)
}

// setHostname names the UTS namespace that was made for the program.
func setHostname(spec *specs.Spec) error {
	if spec.Hostname != "" {
		if err := unix.Sethostname([]byte(spec.Hostname)); err != nil {
			return fmt.Errorf("hostname %q: %w", spec.Hostname, os.NewSyscallError("sethostname", err))
		}
	}
	if spec.Domainname != "" {
		if err := unix.Setdomainname([]byte(spec.Domainname)); err != nil {
			return fmt.Errorf("domainname %q: %w", spec.Domainname, os.NewSyscallError("setdomainname", err))
		}
	}
	return nil
}

// checkSysctls allows those of namespaces that are made for the program.
func checkSysctls(l *specs.Linux) error {
	for name := range l.Sysctl {
		kind := sysctlNamespace(name)
		switch {
		case strings.Contains(name, "..") || path.Clean("/"+name) != "/"+name || strings.ContainsRune(name, 0):
			return fmt.Errorf("linux.sysctl %q: %w: not a sysctl's name", name, ErrInvalid)
		case kind == "":
			return fmt.Errorf("linux.sysctl %q: %w: it is the host's", name, ErrInvalid)
		case !isNew(l.Namespaces, kind):
			return fmt.Errorf("linux.sysctl %q: %w: the pod's namespaces are set when the pod is created", name, ErrInvalid)
		}
	}
	return nil
}

// sysctlNamespace returns the kind of namespace that a sysctl belongs to, or "".
func sysctlNamespace(name string) specs.LinuxNamespaceType {
	ipc := []string{"kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced"}
	switch {
	case strings.HasPrefix(name, "net."):
		return specs.NetworkNamespace
	case strings.HasPrefix(name, "fs.mqueue.") || slices.Contains(ipc, name):
		return specs.IPCNamespace
	case name == "kernel.hostname" || name == "kernel.domainname":
		return specs.UTSNamespace
	}
	return ""
}
