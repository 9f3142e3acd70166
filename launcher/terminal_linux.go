package launcher

import (
	"fmt"
	"os"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/mnt"
	"github.com/podbox/podbox/internal/nsthread"
)

// openTerminal makes the program's terminal: in the container's own devpts(5), so that
// it has the name there that it says it has, or in the host's if there is none.
func (l *launch) openTerminal(p *Process) error {
	ptmx, err := l.openPTMX()
	if err != nil {
		return err
	}
	master, slave, err := openPTY(ptmx)
	if err != nil {
		return err
	}
	p.console = master
	err = ownTerminal(slave, l.spec.Process, l.ids)
	if err == nil && l.root != nil && l.root.dev != nil && l.root.pts != nil {
		err = coverConsole(l.root.dev.tree, slave)
	}
	if err != nil {
		master.Close()
		slave.Close()
		return err
	}
	p.streams = masterStreams(l.opts.IO, master, slave)
	p.streams.child = []*os.File{slave, slave, slave}
	return nil
}

// openPTMX opens a new terminal's master side.
func (l *launch) openPTMX() (master *os.File, err error) {
	if l.root != nil && l.root.pts != nil {
		// Not what might be mounted on it.
		return openIn(l.root.pts, "ptmx", unix.O_RDWR|unix.O_NOCTTY, unix.RESOLVE_NO_SYMLINKS|unix.RESOLVE_NO_XDEV)
	}
	// Not in a container, where it might be anything.
	err = nsthread.Do(func() error {
		master, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
		return err
	})
	return master, err
}

// openPTS opens the root of a devpts(5) that dir is open at; nil if it is something else.
func openPTS(dir *os.File) (*os.File, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(dir.Fd()), &st); err != nil {
		return nil, os.NewSyscallError("fstatfs", err)
	}
	if st.Type != unix.DEVPTS_SUPER_MAGIC {
		return nil, nil
	}
	fd, err := unix.FcntlInt(dir.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("fcntl F_DUPFD_CLOEXEC", err)
	}
	return os.NewFile(uintptr(fd), dir.Name()), nil
}

// openPTY returns both sides of the new pseudoterminal whose master side is open
// already.
func openPTY(master *os.File) (_, slave *os.File, err error) {
	if err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		err = os.NewSyscallError("ioctl TIOCSPTLCK", err)
	} else {
		slave, err = openSlave(master)
	}
	if err != nil {
		master.Close()
		return nil, nil, err
	}
	return master, slave, nil
}

// openSlave opens the other side of a pseudoterminal's master side: by that, not by a
// path, behind which there might be another file (CVE-2025-52565).
func openSlave(master *os.File) (*os.File, error) {
	fd, _, e := unix.Syscall(unix.SYS_IOCTL, master.Fd(), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if e != 0 {
		return nil, os.NewSyscallError("ioctl TIOCGPTPEER", e)
	}
	return os.NewFile(fd, "pts"), nil
}

// ownTerminal gives a terminal to the program's user, who may open it by its name, and
// the size that it is to have.
func ownTerminal(slave *os.File, p *specs.Process, ids idMapping) error {
	uid, err := ids.uid(p.User.UID)
	if err != nil {
		return err
	}
	if err := slave.Chown(uid, -1); err != nil {
		return err
	}
	if size := p.ConsoleSize; size != nil {
		return resize(slave, uint16(size.Width), uint16(size.Height))
	}
	return nil
}

// coverConsole mounts a terminal on /dev/console, of a /dev that nobody has yet.
func coverConsole(dev, slave *os.File) error {
	err := unix.Mknodat(int(dev.Fd()), "console", unix.S_IFREG|0o600, 0)
	if err != nil && err != unix.EEXIST { // one of the devices that are listed
		return &os.PathError{Op: "create", Path: "/dev/console", Err: err}
	}
	place, err := openIn(dev, "console", unix.O_PATH, unix.RESOLVE_NO_SYMLINKS)
	if err != nil {
		return err
	}
	defer place.Close()
	m, err := mnt.CloneFile(slave, false)
	if err != nil {
		return fmt.Errorf("/dev/console: %w", err)
	}
	defer m.Close()
	return mnt.Cover(m, place)
}

func resize(terminal *os.File, width, height uint16) error {
	ws := &unix.Winsize{Col: width, Row: height}
	return os.NewSyscallError("ioctl TIOCSWINSZ", unix.IoctlSetWinsize(int(terminal.Fd()), unix.TIOCSWINSZ, ws))
}
