package ipcns

import (
	"os"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/nsthread"
	"github.com/podbox/podbox/internal/testenv"
)

// All five kinds of object, made and listed in a namespace of their own.
func TestList(t *testing.T) {
	testenv.NeedRoot(t)
	var o *Objects
	err := nsthread.Do(func() error {
		if err := nsthread.Unshare(unix.CLONE_NEWIPC); err != nil {
			return err
		}
		for _, call := range []struct {
			nr      uintptr
			a, b, c uintptr
			what    string
		}{
			{unix.SYS_SHMGET, 0x1234, 8192, unix.IPC_CREAT | 0o640, "shmget"},
			{unix.SYS_SEMGET, 0x80001234, 3, unix.IPC_CREAT | 0o600, "semget"},
			{unix.SYS_MSGGET, 0x5678, unix.IPC_CREAT | 0o660, 0, "msgget"},
		} {
			if _, _, e := unix.Syscall(call.nr, call.a, call.b, call.c); e != 0 {
				return os.NewSyscallError(call.what, e)
			}
		}
		name, _ := unix.BytePtrFromString("queue")
		fd, _, e := unix.Syscall6(unix.SYS_MQ_OPEN, uintptr(unsafe.Pointer(name)), unix.O_CREAT|unix.O_RDWR, 0o600, 0, 0, 0)
		if e != 0 {
			return os.NewSyscallError("mq_open", e)
		}
		defer unix.Close(int(fd))
		message := []byte("hello")
		if _, _, e := unix.Syscall6(unix.SYS_MQ_TIMEDSEND, fd, uintptr(unsafe.Pointer(&message[0])), 5, 0, 0, 0); e != 0 {
			return os.NewSyscallError("mq_timedsend", e)
		}
		shm, err := NewShm("test", 1<<20)
		if err != nil {
			return err
		}
		defer shm.Close()
		f, err := unix.Openat(int(shm.Fd()), "memory", unix.O_CREAT|unix.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		unix.Write(f, make([]byte, 100))
		unix.Close(f)
		// What is no shared memory is not listed, and opened by nobody.
		if err := unix.Mkfifoat(int(shm.Fd()), "fifo", 0o600); err != nil {
			return err
		}
		if err := unix.Symlinkat("/etc/passwd", int(shm.Fd()), "link"); err != nil {
			return err
		}
		o, err = List(shm)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(o.SharedMemory) != 1 || o.SharedMemory[0].Key != "0x00001234" || o.SharedMemory[0].Bytes != 8192 || o.SharedMemory[0].Mode != "640" {
		t.Errorf("shared memory %+v", o.SharedMemory)
	}
	if len(o.Semaphores) != 1 || o.Semaphores[0].Key != "0x80001234" || o.Semaphores[0].Count != 3 {
		t.Errorf("semaphores %+v", o.Semaphores)
	}
	if len(o.MessageQueues) != 1 || o.MessageQueues[0].Key != "0x00005678" {
		t.Errorf("message queues %+v", o.MessageQueues)
	}
	if len(o.PosixQueues) != 1 || o.PosixQueues[0].Name != "/queue" || o.PosixQueues[0].Bytes != 5 {
		t.Errorf("POSIX queues %+v", o.PosixQueues)
	}
	if len(o.PosixMemory) != 1 || o.PosixMemory[0].Name != "/memory" || o.PosixMemory[0].Bytes != 100 {
		t.Errorf("POSIX memory %+v", o.PosixMemory)
	}
}

func TestIsSysctl(t *testing.T) {
	for name, want := range map[string]bool{
		"kernel.shmmax": true, "kernel.sem": true, "fs.mqueue.msg_max": true,
		"kernel.hostname": false, "kernel.shm": false, "fs.mqueue.": false, "fs.file-max": false, "net.core.somaxconn": false,
	} {
		if IsSysctl(name) != want {
			t.Errorf("IsSysctl(%q) = %v", name, !want)
		}
	}
}

// The size of /dev/shm is a limit.
func TestShmSize(t *testing.T) {
	testenv.NeedRoot(t)
	shm, err := NewShm("test", 64<<10)
	if err != nil {
		t.Fatal(err)
	}
	defer shm.Close()
	fd, err := unix.Openat(int(shm.Fd()), "x", unix.O_CREAT|unix.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	n, err := unix.Write(fd, []byte(strings.Repeat("x", 128<<10)))
	if err == nil && n > 64<<10 {
		t.Errorf("wrote %d bytes", n)
	}
}
