// Package proc names processes so that the name cannot come to mean another
// process, and acts on them by that name.
//
// A PID alone is reused. An [Identity] adds the start time and the boot, and
// every use goes through a pidfd whose process is compared with the Identity
// first: after that no reuse matters, since a pidfd never changes its process.
package proc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// ErrGone is returned for a process that has ended, also when it has not been
// reaped yet or when its PID belongs to another process now.
var ErrGone = errors.New("process is gone")

// An Identity names one process of one boot of one machine. The zero value names
// none.
type Identity struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks from boot; proc_pid_stat(5), field 22
	Boot  string `json:"boot"`  // random(4), boot_id
}

// BootID returns the identity of the running boot.
var BootID = sync.OnceValues(func() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b)), err
})

// Identify returns the identity of the process that pidfd, opened for pid,
// refers to.
func Identify(pid int, pidfd *os.File) (Identity, error) {
	boot, err := BootID()
	if err != nil {
		return Identity{}, err
	}
	fields, err := stat(pid)
	if err != nil {
		return Identity{}, err
	}
	if Exited(pidfd) {
		return Identity{}, ErrGone
	}
	return Identity{PID: pid, Start: start(fields), Boot: boot}, nil
}

// IdentifyChild returns the identity of a child that has not been reaped, of the
// calling process; dir is an open /proc, for threads that see none.
func IdentifyChild(dir *os.File, pid int) (Identity, error) {
	boot, err := BootID()
	if err != nil {
		return Identity{}, err
	}
	fd, err := unix.Openat(int(dir.Fd()), strconv.Itoa(pid)+"/stat", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return Identity{}, &os.PathError{Op: "open", Path: fmt.Sprintf("/proc/%d/stat", pid), Err: err}
	}
	f := os.NewFile(uintptr(fd), "stat")
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		return Identity{}, err
	}
	fields, err := parseStat(b)
	if err != nil {
		return Identity{}, err
	}
	return Identity{PID: pid, Start: start(fields), Boot: boot}, nil
}

// Open returns a pidfd of the process, or ErrGone. One that has been killed and is just
// ending is waited for, so that who has killed it finds it gone; but not for longer than
// dyingTime, should it be frozen or stuck.
func (id Identity) Open() (*os.File, error) {
	boot, err := BootID()
	if err != nil {
		return nil, err
	}
	if id.PID <= 0 || id.Boot != boot {
		return nil, ErrGone
	}
	f, err := OpenPID(id.PID)
	if err != nil {
		return nil, err
	}
	fields, err := stat(id.PID)
	if err == nil && (start(fields) != id.Start || Exited(f) || dying(fields) && wait(f, dyingTime)) {
		err = ErrGone
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

const dyingTime = 500 * time.Millisecond

// dying reports whether the fields of stat are those of a process that a signal ends, or
// that is ending. On a busy machine there is time for others before it comes to that. The
// first thread of a process may have ended, state Z, while others go on.
func dying(fields [][]byte) bool {
	const ending, killed = 0x4 | 0x400, 1 << (unix.SIGKILL - 1) // PF_EXITING, PF_SIGNALED, linux/sched.h; a set of signals
	if len(fields) < 29 || string(fields[0]) == "Z" {
		return false
	}
	flags, _ := strconv.ParseUint(string(fields[6]), 10, 64)
	pending, _ := strconv.ParseUint(string(fields[28]), 10, 64)
	return flags&ending != 0 || pending&killed != 0
}

// OpenPID returns a pidfd of whatever process has the PID now, or ErrGone.
func OpenPID(pid int) (*os.File, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err == unix.ESRCH || err == unix.EINVAL {
		return nil, ErrGone
	}
	if err != nil {
		return nil, fmt.Errorf("process %d: %w", pid, os.NewSyscallError("pidfd_open", err))
	}
	return os.NewFile(uintptr(fd), "pidfd"), nil
}

// PIDOf returns the PID of the process of a pidfd, or ErrGone; pidfd_open(2).
func PIDOf(pidfd *os.File) (int, error) {
	b, err := os.ReadFile("/proc/self/fdinfo/" + strconv.Itoa(int(pidfd.Fd())))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if value, ok := strings.CutPrefix(line, "Pid:"); ok {
			pid, err := strconv.Atoi(strings.TrimSpace(value))
			if err == nil && pid <= 0 {
				err = ErrGone
			}
			return pid, err
		}
	}
	return 0, fmt.Errorf("descriptor %d is no pidfd: %w", pidfd.Fd(), unix.EBADF)
}

// start reads field 22 of /proc/PID/stat: 0, which no process has, if it is no number.
func start(fields [][]byte) uint64 {
	n, _ := strconv.ParseUint(string(fields[19]), 10, 64)
	return n
}

// stat returns the fields of /proc/PID/stat from the third on: the second is a name
// in parentheses which may hold anything. See proc_pid_stat(5).
func stat(pid int) ([][]byte, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return nil, ErrGone
	}
	if err != nil {
		return nil, err
	}
	return parseStat(b)
}

func parseStat(b []byte) ([][]byte, error) {
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(fields) < 20 {
		return nil, fmt.Errorf("/proc/PID/stat: %w", unix.EBADMSG)
	}
	return fields, nil
}

// Exited reports whether the process of a pidfd has ended.
func Exited(pidfd *os.File) bool {
	return wait(pidfd, 0)
}

func wait(pidfd *os.File, d time.Duration) bool {
	p := []unix.PollFd{{Fd: int32(pidfd.Fd()), Events: unix.POLLIN}}
	for deadline := time.Now().Add(d); ; {
		n, err := unix.Poll(p, int(max(time.Until(deadline), 0).Milliseconds()))
		if err != unix.EINTR { // as a child of ours does that ends
			return err == nil && n == 1
		}
	}
}

// Wait returns when the process of a pidfd has ended, or with the context's
// error.
func Wait(ctx context.Context, pidfd *os.File) error {
	for {
		if wait(pidfd, 50*time.Millisecond) {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// Signal sends a signal to the process of a pidfd. ErrGone if it has ended.
func Signal(pidfd *os.File, sig unix.Signal) error {
	err := unix.PidfdSendSignal(int(pidfd.Fd()), sig, nil, 0)
	if err == unix.ESRCH {
		return ErrGone
	}
	return os.NewSyscallError("pidfd_send_signal", err)
}

// SignalGroup sends a signal to the process group of a process; before Linux 6.9, which has
// no safe way to do that, to the process alone.
func SignalGroup(pidfd *os.File, sig unix.Signal) error {
	const processGroup = 1 << 2 // PIDFD_SIGNAL_PROCESS_GROUP
	err := unix.PidfdSendSignal(int(pidfd.Fd()), sig, nil, processGroup)
	switch err {
	case unix.EINVAL:
		return Signal(pidfd, sig)
	case unix.ESRCH:
		return ErrGone
	}
	return os.NewSyscallError("pidfd_send_signal", err)
}

// Reap collects the exit status of an ended process if it is a child of ours.
func Reap(pidfd *os.File) {
	for unix.Waitid(unix.P_PIDFD, int(pidfd.Fd()), nil, unix.WEXITED|unix.WNOHANG, nil) == unix.EINTR {
	}
}

// PIDs returns the processes that /proc shows, without those of the kernel where
// it tells which these are.
func PIDs() ([]int, error) {
	d, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	kernel := kernelThreads()
	pids := make([]int, 0, len(names))
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil && !kernel[name] {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// kernelThreads returns the children of kthreadd(2), often most of a machine's
// processes. The file needs CONFIG_PROC_CHILDREN. In a PID namespace of its own a
// process 2 is somebody else.
func kernelThreads() map[string]bool {
	if comm, err := os.ReadFile("/proc/2/comm"); err != nil || string(comm) != "kthreadd\n" {
		return nil
	}
	if exe, err := os.Readlink("/proc/2/exe"); err == nil && exe != "" {
		return nil
	}
	b, err := os.ReadFile("/proc/2/task/2/children")
	if err != nil {
		return nil
	}
	threads := map[string]bool{"2": true}
	for _, pid := range strings.Fields(string(b)) {
		threads[pid] = true
	}
	return threads
}

// ExitStatus returns the exit status of the ended process of a pidfd, which need not
// be a child of ours: 128+N if signal N ended it. Nil if nobody knows any more. As long
// as its parent has not reaped it /proc tells; after that the kernel does since Linux
// 6.15, if the pidfd was opened before.
func ExitStatus(pidfd *os.File) *int {
	pid, err := PIDOf(pidfd)
	if err == nil {
		if fields, err := stat(pid); err == nil && len(fields) > 49 && string(fields[0]) == "Z" {
			code, err := strconv.Atoi(string(fields[49]))
			if _, gone := PIDOf(pidfd); err == nil && gone == nil { // it was the same all the time
				return exitStatus(unix.WaitStatus(code))
			}
		}
	}
	info := &unix.PidfdInfo{Mask: unix.PIDFD_INFO_EXIT}
	if err := unix.IoctlPidfdInfo(int(pidfd.Fd()), info); err != nil || info.Mask&unix.PIDFD_INFO_EXIT == 0 {
		return nil
	}
	return exitStatus(unix.WaitStatus(info.Exit_code))
}

func exitStatus(ws unix.WaitStatus) *int {
	status := ws.ExitStatus()
	if ws.Signaled() {
		status = 128 + int(ws.Signal())
	}
	return &status
}
