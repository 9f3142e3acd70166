package ipcns

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/mnt"
)

// DefaultShmSize is the size of a pod's /dev/shm in bytes, unless it asks for
// another: 64 MiB, as container engines have it.
const DefaultShmSize = 64 << 20

// attr are the flags of the mounts that members get.
const attr = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC

// NewShm returns a detached mount of a new, empty tmpfs for /dev/shm of size
// bytes. source is what mount tables show it as.
func NewShm(source string, size int64) (*os.File, error) {
	return mnt.New("tmpfs", attr,
		mnt.Option{Key: "source", Value: source},
		mnt.Option{Key: "mode", Value: "1777"},
		mnt.Option{Key: "size", Value: strconv.FormatInt(size, 10)})
}

// NewMqueue returns a detached mount of the POSIX message queues of the calling
// thread's IPC namespace.
func NewMqueue() (*os.File, error) {
	return mnt.New("mqueue", attr, mnt.Option{Key: "source", Value: "mqueue"})
}

// IsSysctl reports whether a sysctl, named with dots, belongs to the IPC
// namespace.
func IsSysctl(name string) bool {
	switch name {
	case "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.msg_next_id", "kernel.auto_msgmni",
		"kernel.sem", "kernel.sem_next_id",
		"kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.shm_next_id", "kernel.shm_rmid_forced":
		return true
	}
	rest, ok := strings.CutPrefix(name, "fs.mqueue.")
	return ok && rest != ""
}

// Objects are the IPC objects of a pod.
type Objects struct {
	SharedMemory  []SharedMemory `json:"sharedMemory,omitempty"`  // System V
	Semaphores    []Semaphores   `json:"semaphores,omitempty"`    // System V
	MessageQueues []MessageQueue `json:"messageQueues,omitempty"` // System V
	PosixQueues   []PosixQueue   `json:"posixQueues,omitempty"`   // mq_overview(7)
	PosixMemory   []PosixMemory  `json:"posixMemory,omitempty"`   // shm_overview(7)
}

// SharedMemory is a System V shared memory segment.
type SharedMemory struct {
	Key      string `json:"key"` // hexadecimal, as ipcs(1) prints it
	ID       int    `json:"id"`
	UID      int    `json:"uid"`
	Mode     string `json:"mode"` // octal
	Bytes    uint64 `json:"bytes"`
	Attached int    `json:"attached"`
}

// Semaphores is a System V semaphore set.
type Semaphores struct {
	Key   string `json:"key"`
	ID    int    `json:"id"`
	UID   int    `json:"uid"`
	Mode  string `json:"mode"`
	Count int    `json:"count"`
}

// MessageQueue is a System V message queue.
type MessageQueue struct {
	Key      string `json:"key"`
	ID       int    `json:"id"`
	UID      int    `json:"uid"`
	Mode     string `json:"mode"`
	Bytes    uint64 `json:"bytes"`
	Messages int    `json:"messages"`
}

// PosixQueue is a POSIX message queue.
type PosixQueue struct {
	Name  string `json:"name"` // with its leading slash
	UID   int    `json:"uid"`
	Mode  string `json:"mode"`
	Bytes uint64 `json:"bytes"` // in messages not yet received
}

// PosixMemory is a file of /dev/shm.
type PosixMemory struct {
	Name  string `json:"name"` // with its leading slash
	UID   int    `json:"uid"`
	Mode  string `json:"mode"`
	Bytes int64  `json:"bytes"`
}

// List returns the objects of the calling thread's IPC namespace. shm is the
// directory or mount that members have as /dev/shm, nil if there is none.
func List(shm *os.File) (*Objects, error) {
	o := new(Objects)
	err := sysv("shm", 10, func(w []string) {
		// key shmid perms size cpid lpid nattch uid …
		o.SharedMemory = append(o.SharedMemory, SharedMemory{
			Key: key(w[0]), ID: number(w[1]), Mode: w[2], UID: number(w[7]),
			Bytes: uint64(number(w[3])), Attached: number(w[6]),
		})
	})
	if err != nil {
		return nil, err
	}
	err = sysv("sem", 5, func(w []string) {
		// key semid perms nsems uid …
		o.Semaphores = append(o.Semaphores, Semaphores{
			Key: key(w[0]), ID: number(w[1]), Mode: w[2], Count: number(w[3]), UID: number(w[4]),
		})
	})
	if err != nil {
		return nil, err
	}
	err = sysv("msg", 8, func(w []string) {
		// key msqid perms cbytes qnum lspid lrpid uid …
		o.MessageQueues = append(o.MessageQueues, MessageQueue{
			Key: key(w[0]), ID: number(w[1]), Mode: w[2],
			Bytes: uint64(number(w[3])), Messages: number(w[4]), UID: number(w[7]),
		})
	})
	if err != nil {
		return nil, err
	}
	mq, err := NewMqueue()
	if err != nil {
		return nil, err
	}
	defer mq.Close()
	err = files(mq, func(name string, fd int, st *unix.Stat_t) {
		o.PosixQueues = append(o.PosixQueues, PosixQueue{
			Name: "/" + name, UID: int(st.Uid), Mode: mode(st), Bytes: queueSize(fd),
		})
	})
	if err != nil || shm == nil {
		return o, err
	}
	err = files(shm, func(name string, _ int, st *unix.Stat_t) {
		o.PosixMemory = append(o.PosixMemory, PosixMemory{
			Name: "/" + name, UID: int(st.Uid), Mode: mode(st), Bytes: st.Size,
		})
	})
	return o, err
}

// sysv calls f with the words of each line of a table of /proc/sysvipc, which
// shows the IPC namespace of the thread that reads it.
func sysv(table string, words int, f func([]string)) error {
	b, err := os.ReadFile("/proc/sysvipc/" + table)
	if err != nil {
		return err
	}
	for i, line := range strings.Split(string(b), "\n") {
		w := strings.Fields(line)
		if i == 0 || len(w) == 0 {
			continue // titles
		}
		if len(w) < words {
			return fmt.Errorf("/proc/sysvipc/%s: line %q: %w", table, line, unix.EBADMSG)
		}
		f(w)
	}
	return nil
}

// files calls f for each regular file of a directory. The names and the files
// are the pod's: a link is not followed, what vanishes is left out.
func files(dir *os.File, f func(name string, fd int, st *unix.Stat_t)) error {
	fd, err := unix.Openat(int(dir.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: dir.Name(), Err: err}
	}
	d := os.NewFile(uintptr(fd), dir.Name())
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		fd, err := unix.Openat(int(d.Fd()), name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			continue
		}
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err == nil && st.Mode&unix.S_IFMT == unix.S_IFREG {
			f(name, fd, &st)
		}
		unix.Close(fd)
	}
	return nil
}

// queueSize reads the bytes held by a queue: "QSIZE:129 NOTIFY:2 …".
func queueSize(fd int) uint64 {
	b := make([]byte, 80)
	n, err := unix.Pread(fd, b, 0)
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(b[:n]), " ")
	size, _ := strconv.ParseUint(strings.TrimPrefix(first, "QSIZE:"), 10, 64)
	return size
}

// key turns the decimal, signed key of /proc/sysvipc into the usual form.
func key(s string) string {
	k, _ := strconv.ParseInt(s, 10, 64)
	return fmt.Sprintf("0x%08x", uint32(k))
}

func number(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}

func mode(st *unix.Stat_t) string { return fmt.Sprintf("%03o", st.Mode&0o7777) }
