package cgroup

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Plain system calls: os.Open would add each file to the runtime's poller, which
// kernfs supports and which costs more than the read.

func open(dir int, name string, flags int) (int, error) {
	for {
		fd, err := unix.Openat(dir, name, flags|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return -1, &os.PathError{Op: "open", Path: name, Err: err}
		}
		return fd, nil
	}
}

func readAt(dir int, name string) ([]byte, error) {
	fd, err := open(dir, name, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	b := make([]byte, 0, 4096)
	for {
		n, err := unix.Read(fd, b[len(b):cap(b)])
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return nil, &os.PathError{Op: "read", Path: name, Err: err}
		case n == 0:
			return b, nil
		}
		b = b[:len(b)+n]
		b = append(b, 0)[:len(b)]
	}
}

func read(dir, name string) ([]byte, error) { return readAt(unix.AT_FDCWD, dir+"/"+name) }

func write(dir, name, value string) error { return writeAt(unix.AT_FDCWD, dir+"/"+name, value) }

func writeAt(dir int, path, value string) error {
	fd, err := open(dir, path, unix.O_WRONLY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for {
		if _, err = unix.Write(fd, []byte(value)); err != unix.EINTR {
			break
		}
	}
	if err != nil {
		return &os.PathError{Op: "write " + strconv.Quote(value) + " to", Path: path, Err: err}
	}
	return nil
}

func exists(path string) bool { return unix.Access(path, unix.F_OK) == nil }

// isGone reports whether an error says that a group is not there (any more):
// files that are still open answer ENODEV then.
func isGone(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) }

func ignoreGone(err error) error {
	if isGone(err) {
		return nil
	}
	return err
}

// valueOf returns the number behind a key at the start of a line, or 0.
func valueOf(b []byte, key string) uint64 {
	for line := range bytes.Lines(b) {
		if name, value, ok := bytes.Cut(line, []byte{' '}); ok && string(name) == key {
			return number(value)
		}
	}
	return 0
}

// number returns 0 for what is not a number: "max", and the negative values that
// the kernel shows at times because its counters are not exact.
func number(b []byte) uint64 {
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// until asks again and again, with growing pauses, until done says yes, fails, or
// the context ends.
func until(ctx context.Context, done func() (bool, error)) error {
	for pause := 50 * time.Microsecond; ; pause = min(2*pause, 10*time.Millisecond) {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}
