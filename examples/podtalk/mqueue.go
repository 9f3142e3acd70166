//go:build linux

package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// exitMessage ends the stream of messages in a queue. rand.Text cannot make it.
const exitMessage = "exit"

// maxWait bounds one wait inside the kernel: a signal does not end it, because the
// Go runtime has system calls restarted.
const maxWait = 100 * time.Millisecond

// produce sends n random messages and then the exit message, and prints them.
func (s *session) produce(ctx context.Context, name, n string) error {
	count, err := strconv.ParseUint(n, 10, 31)
	if err != nil {
		return fmt.Errorf("number of messages %q: %w", n, errors.Unwrap(err))
	}
	q, err := openQueue(name, unix.O_WRONLY|unix.O_CREAT)
	if err != nil {
		return err
	}
	defer q.Close()
	for i := range count + 1 {
		message := exitMessage
		if i < count {
			message = rand.Text()
		}
		if err := q.send(ctx, message); err != nil {
			return err
		}
		fmt.Fprintln(s.out, message)
	}
	return nil
}

// consume prints the messages in a queue up to the exit message and unlinks it.
// It waits for the producer to make the queue.
func (s *session) consume(ctx context.Context, name string) error {
	var q *queue
	err := retry(ctx, func() (err error) {
		q, err = openQueue(name, unix.O_RDONLY)
		return err
	}, unix.ENOENT)
	if err != nil {
		return err
	}
	defer q.Close()
	for {
		message, err := q.receive(ctx)
		if err != nil {
			return err
		}
		fmt.Fprintln(s.out, message)
		if message == exitMessage {
			break
		}
	}
	if s.keep {
		return nil
	}
	return unlinkQueue(name)
}

// A queue is an open POSIX message queue (mq_overview(7)). It needs no mount:
// the calls find the queue by its name in the caller's IPC namespace.
type queue struct{ fd int }

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

func openQueue(name string, flags int) (*queue, error) {
	p, err := queueName(name)
	if err != nil {
		return nil, err
	}
	// Small enough for the namespace's default limits and RLIMIT_MSGQUEUE; the
	// kernel reads the attributes only when it makes the queue.
	attr := mqAttr{maxMsg: 8, msgSize: 64}
	fd, _, errno := unix.Syscall6(unix.SYS_MQ_OPEN, uintptr(unsafe.Pointer(p)),
		uintptr(flags|unix.O_CLOEXEC), 0o600, uintptr(unsafe.Pointer(&attr)), 0, 0)
	if errno != 0 {
		return nil, os.NewSyscallError("mq_open", errno)
	}
	return &queue{fd: int(fd)}, nil
}

func unlinkQueue(name string) error {
	p, err := queueName(name)
	if err != nil {
		return err
	}
	_, _, errno := unix.Syscall(unix.SYS_MQ_UNLINK, uintptr(unsafe.Pointer(p)), 0, 0)
	return sysError("mq_unlink", errno)
}

// Close lets go of the queue, which stays.
func (q *queue) Close() error { return unix.Close(q.fd) }

// send waits for room in the queue.
func (q *queue) send(ctx context.Context, message string) error {
	b := []byte(message)
	return retry(ctx, func() error {
		until := realTime(maxWait)
		_, _, errno := unix.Syscall6(unix.SYS_MQ_TIMEDSEND, uintptr(q.fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))),
			uintptr(len(b)), 0, uintptr(unsafe.Pointer(&until)), 0)
		return sysError("mq_timedsend", errno)
	}, unix.ETIMEDOUT, unix.EINTR)
}

// receive waits for a message in the queue.
func (q *queue) receive(ctx context.Context) (string, error) {
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
