package supervisor

import (
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A supervisor starts a container in some milliseconds, for which it needs a
// hundred times the memory that it needs to wait for its end. When it has been at
// rest for a moment it gives that back: the garbage, and its mappings of the pages of
// its own program, which stay in the page cache.

// trimDelay is how long after the last start memory is given back.
const trimDelay = 300 * time.Millisecond

// trimSoon gives memory back in a moment, unless there is more to do until then.
func (s *server) trimSoon() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.trimmer == nil {
		s.trimmer = time.AfterFunc(trimDelay, trim)
		return
	}
	s.trimmer.Reset(trimDelay)
}

func trim() {
	// Each round frees what the pools of the last have kept, and halves stacks.
	for range 3 {
		runtime.GC()
	}
	debug.FreeOSMemory()
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return
	}
	for line := range strings.Lines(string(maps)) {
		// address perms offset dev inode pathname; proc_pid_maps(5)
		f := strings.Fields(line)
		if len(f) < 6 || f[5] != exe || strings.Contains(f[1], "w") {
			continue
		}
		from, to, _ := strings.Cut(f[0], "-")
		start, err := strconv.ParseUint(from, 16, 64)
		if err != nil {
			continue
		}
		end, err := strconv.ParseUint(to, 16, 64)
		if err != nil || end <= start {
			continue
		}
		// Nothing was written there: it is read from the file again.
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, uintptr(start), uintptr(end-start), unix.MADV_DONTNEED)
	}
}
