package supervisor

import (
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A supervisor starts a container in some milliseconds, for which it needs a
// hundred times the memory that it needs to wait for its end. When it has been at
// rest for a moment it gives that back: the garbage, and its mappings of the pages of
// its own program, which stay in the page cache.

// A probe, too, goes through much of the program, for a millisecond. A moment later the
// mappings are given back, which costs less than the probe; the garbage only every now and
// then, for a collection costs more.

// probeDelay is how long after a probe the mappings are given back, unless another one is
// made until then; fullEvery, how often the garbage is.
const (
	probeDelay = 60 * time.Millisecond
	fullEvery  = 30 * time.Second
)

// A trimmer gives memory back after probes. The zero value is ready for use.
type trimmer struct {
	mu    sync.Mutex
	timer *time.Timer
	full  time.Time // when the garbage was given back
	spans []span    // of our own program, which stay
}

// probed gives memory back in a moment.
func (t *trimmer) probed() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.timer == nil {
		t.full = time.Now()
		t.timer = time.AfterFunc(probeDelay, t.trim)
		return
	}
	t.timer.Reset(probeDelay)
}

func (t *trimmer) trim() {
	t.mu.Lock()
	full := time.Since(t.full) >= fullEvery
	if full {
		t.full = time.Now()
	}
	if t.spans == nil {
		t.spans = ownSpans()
	}
	spans := t.spans
	t.mu.Unlock()
	if full {
		trim()
		return
	}
	unmapProgram(spans)
}

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

// restGC is the garbage that there may be at rest, in percent of what is in use. Until the
// first containers run, a supervisor has the Go runtime's 100.
const restGC = 25

func trim() {
	debug.SetGCPercent(restGC)
	// Each round frees what the pools of the last have kept, and halves stacks.
	for range 3 {
		runtime.GC()
	}
	debug.FreeOSMemory()
	unmapProgram(ownSpans())
}

// A span is some of our own memory.
type span struct{ start, end uintptr }

// unmapProgram gives back the mappings of the pages of our own program.
func unmapProgram(of []span) {
	for _, m := range of {
		// Nothing was written there: it is read from the file again.
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, m.start, m.end-m.start, unix.MADV_DONTNEED)
	}
}

// ownSpans returns where our own program is mapped that cannot be written to.
func ownSpans() (spans []span) {
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return nil
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return nil
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
		spans = append(spans, span{uintptr(start), uintptr(end)})
	}
	return spans
}
