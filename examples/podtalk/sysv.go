//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// System V calls are never restarted after a signal (signal(7)), and the Go
// runtime interrupts its threads at will: EINTR is an everyday answer here.

// parseKey reads a System V key as ipcs(1) prints it, in any base of Go's.
func parseKey(s string) (int, error) {
	key, err := strconv.ParseUint(s, 0, 32)
	if err != nil {
		return 0, fmt.Errorf("key %q: %w", s, errors.Unwrap(err))
	}
	if key == 0 {
		return 0, errors.New("key 0 is IPC_PRIVATE: nobody else could find the object")
	}
	return int(int32(key)), nil
}

// sysvMessage is struct msgbuf of msgsnd(2).
type sysvMessage struct {
	kind int
	text [maxMessage]byte
}

// A sysvQueue is a System V message queue (sysvipc(7)), which is found by its key
// and needs no closing.
type sysvQueue struct{ id int }

// keyedQueue returns what opens the queue of that key.
func keyedQueue(key string) opener {
	return func(create bool) (queue, error) {
		k, err := parseKey(key)
		if err != nil {
			return nil, err
		}
		flags := 0o600
		if create {
			flags |= unix.IPC_CREAT
		}
		id, _, errno := unix.Syscall(unix.SYS_MSGGET, uintptr(k), uintptr(flags), 0)
		if errno != 0 {
			return nil, os.NewSyscallError("msgget", errno)
		}
		return sysvQueue{int(id)}, nil
	}
}

func (q sysvQueue) remove() error {
	_, _, errno := unix.Syscall(unix.SYS_MSGCTL, uintptr(q.id), unix.IPC_RMID, 0)
	return sysError("msgctl", errno)
}

func (q sysvQueue) Close() error { return nil }

// send asks again and again: msgsnd has no time limit of its own.
func (q sysvQueue) send(ctx context.Context, message string) error {
	m := sysvMessage{kind: 1}
	n := copy(m.text[:], message)
	return retry(ctx, func() error {
		_, _, errno := unix.Syscall6(unix.SYS_MSGSND, uintptr(q.id), uintptr(unsafe.Pointer(&m)),
			uintptr(n), unix.IPC_NOWAIT, 0, 0)
		return sysError("msgsnd", errno)
	}, unix.EAGAIN, unix.EINTR)
}

func (q sysvQueue) receive(ctx context.Context) (string, error) {
	var (
		n uintptr
		m sysvMessage
	)
	err := retry(ctx, func() error {
		var errno unix.Errno
		n, _, errno = unix.Syscall6(unix.SYS_MSGRCV, uintptr(q.id), uintptr(unsafe.Pointer(&m)),
			maxMessage, 0, unix.IPC_NOWAIT, 0)
		return sysError("msgrcv", errno)
	}, unix.ENOMSG, unix.EINTR)
	if err != nil {
		return "", err
	}
	return string(m.text[:n]), nil
}

// sendMsg puts a message into the queue of key, which it makes if need be.
func (s *session) sendMsg(ctx context.Context, key, message string) error {
	if err := checkMessage(message); err != nil {
		return err
	}
	q, err := keyedQueue(key)(true)
	if err != nil {
		return err
	}
	return q.send(ctx, message)
}

// recvMsg prints the next message in the queue of key and removes the queue. It
// waits for both.
func (s *session) recvMsg(ctx context.Context, key string) error {
	q, err := keyedQueue(key).await(ctx)
	if err != nil {
		return err
	}
	message, err := q.receive(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintln(s.out, message)
	if s.keep {
		return nil
	}
	return q.remove()
}

// A segment starts with the length of its text, which the writer stores last: the
// reader of a segment that is still zero has come between shmget and the text.
const segmentHeader = 4

func putText(segment []byte, text string) {
	copy(segment[segmentHeader:], text)
	atomic.StoreUint32((*uint32)(unsafe.Pointer(&segment[0])), uint32(len(text)))
}

// errUnwritten is a segment whose writer has not finished.
var errUnwritten = errors.New("the segment holds no text yet")

func textOf(segment []byte) (string, error) {
	if len(segment) < segmentHeader {
		return "", fmt.Errorf("a segment of %d bytes is none of podtalk's", len(segment))
	}
	n := atomic.LoadUint32((*uint32)(unsafe.Pointer(&segment[0])))
	switch {
	case n == 0:
		return "", errUnwritten
	case uint64(n) > uint64(len(segment)-segmentHeader):
		return "", fmt.Errorf("a segment of %d bytes claims to hold a text of %d", len(segment), n)
	}
	return string(segment[segmentHeader:][:n]), nil
}

// writeSegment makes the segment of key with text in it. It replaces no other.
func (s *session) writeSegment(_ context.Context, key, text string) error {
	k, err := parseKey(key)
	if err != nil {
		return err
	}
	if err := checkMessage(text); err != nil {
		return err
	}
	id, err := unix.SysvShmGet(k, segmentHeader+len(text), unix.IPC_CREAT|unix.IPC_EXCL|0o600)
	if err != nil {
		return os.NewSyscallError("shmget", err)
	}
	segment, err := unix.SysvShmAttach(id, 0, 0)
	if err != nil {
		return os.NewSyscallError("shmat", err)
	}
	putText(segment, text)
	return os.NewSyscallError("shmdt", unix.SysvShmDetach(segment))
}

// readSegment prints the text in the segment of key and removes the segment. It
// waits for both.
func (s *session) readSegment(ctx context.Context, key string) error {
	k, err := parseKey(key)
	if err != nil {
		return err
	}
	var (
		id   int
		text string
	)
	err = retry(ctx, func() (err error) {
		if id, err = unix.SysvShmGet(k, 0, 0); err != nil {
			return os.NewSyscallError("shmget", err)
		}
		segment, err := unix.SysvShmAttach(id, 0, 0)
		if err != nil {
			return os.NewSyscallError("shmat", err)
		}
		if text, err = textOf(segment); err != nil {
			return errors.Join(err, unix.SysvShmDetach(segment))
		}
		return os.NewSyscallError("shmdt", unix.SysvShmDetach(segment))
	}, unix.ENOENT, errUnwritten)
	if err != nil {
		return err
	}
	fmt.Fprintln(s.out, text)
	if s.keep {
		return nil
	}
	_, err = unix.SysvShmCtl(id, unix.IPC_RMID, nil)
	return os.NewSyscallError("shmctl", err)
}

// sembuf is struct sembuf of semop(2).
type sembuf struct {
	num   uint16
	op    int16
	flags int16
}

// semget finds or makes the semaphore of key. Linux starts it at zero, which
// POSIX leaves open, so either half may come first.
func semget(key int) (id int, err error) {
	r, _, errno := unix.Syscall(unix.SYS_SEMGET, uintptr(key), 1, unix.IPC_CREAT|0o600)
	return int(r), sysError("semget", errno)
}

// semop adds delta to a semaphore; if that would make it negative, it waits.
func semop(ctx context.Context, id int, delta int16) error {
	op := sembuf{op: delta}
	limit := unix.NsecToTimespec(maxWait.Nanoseconds())
	return retry(ctx, func() error {
		_, _, errno := unix.Syscall6(unix.SYS_SEMTIMEDOP, uintptr(id), uintptr(unsafe.Pointer(&op)), 1,
			uintptr(unsafe.Pointer(&limit)), 0, 0)
		return sysError("semtimedop", errno)
	}, unix.EAGAIN, unix.EINTR)
}

// waitSem takes one from the semaphore of key and removes it.
func (s *session) waitSem(ctx context.Context, key string) error {
	k, err := parseKey(key)
	if err != nil {
		return err
	}
	id, err := semget(k)
	if err != nil {
		return err
	}
	if err := semop(ctx, id, -1); err != nil {
		return err
	}
	fmt.Fprintln(s.out, "woken")
	if s.keep {
		return nil
	}
	_, _, errno := unix.Syscall(unix.SYS_SEMCTL, uintptr(id), 0, unix.IPC_RMID)
	return sysError("semctl", errno)
}

// postSem adds one to the semaphore of key.
func (s *session) postSem(ctx context.Context, key string) error {
	k, err := parseKey(key)
	if err != nil {
		return err
	}
	id, err := semget(k)
	if err != nil {
		return err
	}
	return semop(ctx, id, +1)
}
