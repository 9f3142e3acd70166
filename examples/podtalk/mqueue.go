//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxWait bounds one wait inside the kernel: a signal does not end it, because the
// Go runtime has system calls restarted.
const maxWait = 100 * time.Millisecond

// An mqueue is an open POSIX message queue (mq_overview(7)). It needs no mount:
// the calls find the queue by its name in the caller's IPC namespace.
type mqueue struct {
	fd   int
	name string
}

// posixQueue returns what opens the queue of that name.
func posixQueue(name string) opener {
	return func(create bool) (queue, error) {
		flags := unix.O_RDWR
		if create {
			flags |= unix.O_CREAT
		}
		fd, err := openQueue(name, flags)
		if err != nil {
			return nil, err
		}
		return &mqueue{fd, name}, nil
	}
}

// mqAttr is struct mq_attr of the kernel's <linux/mqueue.h>.
type mqAttr struct {
	flags, maxMsg, msgSize, curMsgs int
	_                               [4]int
}

// queueName returns the name as the kernel takes it: without the slash that the
// C library demands and strips.
func queueName(name string) (*byte, error) {
	bare := strings.TrimPrefix(name, "/")
	if bare == "" || bare == "." || bare == ".." || len(bare) > unix.NAME_MAX || strings.ContainsAny(bare, "/\x00") {
		return nil, fmt.Errorf("%q is not the name of a message queue", name)
	}
	return unix.BytePtrFromString(bare)
}

func openQueue(name string, flags int) (fd int, err error) {
	p, err := queueName(name)
	if err != nil {
		return -1, err
	}
	// Small enough for the namespace's default limits and RLIMIT_MSGQUEUE; the
	// kernel reads the attributes only when it makes the queue.
	attr := mqAttr{maxMsg: 8, msgSize: 64}
	r, _, errno := unix.Syscall6(unix.SYS_MQ_OPEN, uintptr(unsafe.Pointer(p)),
		uintptr(flags|unix.O_CLOEXEC), 0o600, uintptr(unsafe.Pointer(&attr)), 0, 0)
	return int(r), sysError("mq_open", errno)
}

func (q *mqueue) remove() error {
	p, err := queueName(q.name)
	if err != nil {
		return err
	}
	_, _, errno := unix.Syscall(unix.SYS_MQ_UNLINK, uintptr(unsafe.Pointer(p)), 0, 0)
	return sysError("mq_unlink", errno)
}

func (q *mqueue) Close() error { return unix.Close(q.fd) }

func (q *mqueue) send(ctx context.Context, message string) error {
	b := []byte(message)
	return retry(ctx, func() error {
		until := realTime(maxWait)
		_, _, errno := unix.Syscall6(unix.SYS_MQ_TIMEDSEND, uintptr(q.fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))),
			uintptr(len(b)), 0, uintptr(unsafe.Pointer(&until)), 0)
		return sysError("mq_timedsend", errno)
	}, unix.ETIMEDOUT, unix.EINTR)
}

func (q *mqueue) receive(ctx context.Context) (string, error) {
	b := make([]byte, maxMessage)
	var n uintptr
	err := retry(ctx, func() error {
		until := realTime(maxWait)
		var errno unix.Errno
		n, _, errno = unix.Syscall6(unix.SYS_MQ_TIMEDRECEIVE, uintptr(q.fd), uintptr(unsafe.Pointer(&b[0])),
			uintptr(len(b)), 0, uintptr(unsafe.Pointer(&until)), 0)
		return sysError("mq_timedreceive", errno)
	}, unix.ETIMEDOUT, unix.EINTR)
	if err != nil {
		return "", err
	}
	return string(b[:n]), nil
}

// realTime is d from now on CLOCK_REALTIME, the clock of mq_timedsend(3).
func realTime(d time.Duration) unix.Timespec {
	return unix.NsecToTimespec(time.Now().Add(d).UnixNano())
}

// sysError is os.NewSyscallError without its trap: an Errno of 0 in an error
// interface is not nil.
func sysError(name string, errno unix.Errno) error {
	if errno == 0 {
		return nil
	}
	return os.NewSyscallError(name, errno)
}
