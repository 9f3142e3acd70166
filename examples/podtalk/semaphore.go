//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A semaphore is a POSIX one, open: the struct new_sem of the GNU C library on 64
// bits, in a file of /dev/shm that all who use it have mapped. So podtalk meets
// programs in C or Python, too.
type semaphore struct {
	state  uint64 // the value, and in the upper half how many wait for it
	shared uint32 // semShared
	_      [20]byte
}

const (
	semSize   = 32
	semShared = 0x80    // between processes: what the C library leaves out of its futex operations
	semWaiter = 1 << 32 // one who waits, in state
)

// semPath is where sem_open(3) keeps a semaphore of that name.
func semPath(name string) (string, error) {
	path, err := shmPath(name)
	if err != nil {
		return "", fmt.Errorf("%q is not the name of a semaphore", name)
	}
	dir, bare := path[:len("/dev/shm/")], path[len("/dev/shm/"):]
	return dir + "sem." + bare, nil
}

// openSemaphore finds or makes the semaphore at path. Fresh memory is a semaphore of
// value 0, so that either half may come first.
func openSemaphore(path string) (sem *semaphore, unmap func() error, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	if err := f.Truncate(semSize); err != nil {
		return nil, nil, err
	}
	b, err := unix.Mmap(int(f.Fd()), 0, semSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, nil, &os.PathError{Op: "mmap", Path: path, Err: err}
	}
	sem = (*semaphore)(unsafe.Pointer(&b[0]))
	atomic.StoreUint32(&sem.shared, semShared)
	return sem, func() error { return unix.Munmap(b) }, nil
}

// post adds one to the value, and wakes one who waits.
func (sem *semaphore) post() error {
	if state := atomic.AddUint64(&sem.state, 1); state < semWaiter {
		return nil
	}
	const futexWake = 1
	_, _, errno := unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(&sem.state)), futexWake, 1, 0, 0, 0)
	return sysError("futex", errno)
}

// wait takes one from the value when there is one to take.
func (sem *semaphore) wait(ctx context.Context) error {
	atomic.AddUint64(&sem.state, semWaiter)
	limit := unix.NsecToTimespec(maxWait.Nanoseconds())
	err := retry(ctx, func() error {
		for state := atomic.LoadUint64(&sem.state); uint32(state) > 0; state = atomic.LoadUint64(&sem.state) {
			if atomic.CompareAndSwapUint64(&sem.state, state, state-1-semWaiter) {
				return nil
			}
		}
		// The value is the lower half, which amd64 and arm64 store first.
		const futexWait = 0
		_, _, errno := unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(&sem.state)), futexWait, 0,
			uintptr(unsafe.Pointer(&limit)), 0, 0)
		if errno == 0 {
			errno = unix.EAGAIN // woken: look again
		}
		return sysError("futex", errno)
	}, unix.EAGAIN, unix.EINTR, unix.ETIMEDOUT)
	if err != nil {
		atomic.AddUint64(&sem.state, ^uint64(semWaiter-1))
	}
	return err
}

// waitSemaphore takes one from the semaphore of that name and removes it.
func (s *session) waitSemaphore(ctx context.Context, name string) error {
	path, err := semPath(name)
	if err != nil {
		return err
	}
	sem, unmap, err := openSemaphore(path)
	if err != nil {
		return err
	}
	defer unmap()
	if err := sem.wait(ctx); err != nil {
		return err
	}
	fmt.Fprintln(s.out, "woken")
	if s.keep {
		return nil
	}
	return os.Remove(path)
}

// postSemaphore adds one to the semaphore of that name.
func (s *session) postSemaphore(name string) error {
	path, err := semPath(name)
	if err != nil {
		return err
	}
	sem, unmap, err := openSemaphore(path)
	if err != nil {
		return err
	}
	defer unmap()
	return sem.post()
}
