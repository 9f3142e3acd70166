package kubecli

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/image/ingest"
	"github.com/podbox/podbox/image/registry"
)

// terminal opens a terminal of 100 columns, and what it shows.
func terminal(t *testing.T) (tty *os.File, shown func() string) {
	t.Helper()
	ptm, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(ptm.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(ptm.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(int(ptm.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 30, Col: 100})
	}
	if err != nil {
		t.Fatal(err)
	}
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	done := make(chan struct{})
	go func() {
		_, _ = io.Copy(&b, ptm) // until the terminal is closed
		close(done)
	}()
	return tty, func() string {
		tty.Close()
		<-done
		ptm.Close()
		return b.String()
	}
}

// layersOf tells of layers as they come, some at once.
func layersOf(p *progress, stop bool) {
	const size = 1 << 20
	var all sync.WaitGroup
	for i := range 5 {
		all.Go(func() {
			l := ingest.Progress{Layer: fmt.Sprintf("sha256:%064d", i), Index: i, Count: 5, Total: size, Stage: ingest.Waiting}
			p.layer(l)
			if i == 0 {
				l.Stage = ingest.Present
				p.layer(l)
				return
			}
			l.Stage = ingest.Unpacking
			for l.Done = 0; l.Done < size; l.Done += 4096 {
				p.layer(l)
			}
			if stop {
				return
			}
			time.Sleep(100 * time.Millisecond)
			for _, l.Stage = range []ingest.Stage{ingest.Syncing, ingest.Done} {
				p.layer(l)
			}
		})
	}
	all.Wait()
}

func TestProgressOnTerminal(t *testing.T) {
	for _, stop := range []bool{false, true} {
		tty, shown := terminal(t)
		p := newProgress(t.Context(), tty, false)
		p.step(registry.Step{Kind: registry.Asking, Reference: "example.com/app:v1"})
		layersOf(p, stop)
		closed := make(chan struct{})
		go func() {
			p.close()
			close(closed)
		}()
		select {
		case <-closed:
		case <-time.After(10 * time.Second):
			t.Fatal("close hangs")
		}
		text := shown()
		for _, want := range []string{"Trying to pull example.com/app:v1...", "Copying blob 000000000000", "skipped: already exists", "1.0 MB"} {
			if !strings.Contains(text, want) {
				t.Errorf("%q is not shown in %q", want, text)
			}
		}
		if strings.Contains(text, "done") == stop {
			t.Errorf("stopped: %v, shown: %q", stop, text)
		}
	}
}

func TestProgressInLines(t *testing.T) {
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p := newProgress(t.Context(), write, false)
	p.step(registry.Step{Kind: registry.Fetching, Reference: "a.example/app:v1", From: "b.example/app:v1"})
	layersOf(p, false)
	p.step(registry.Step{Kind: registry.Current})
	p.close()
	quiet := newProgress(t.Context(), write, true)
	layersOf(quiet, false)
	quiet.close()
	write.Close()
	b, err := io.ReadAll(read)
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	if !strings.HasPrefix(text, "Found at b.example/app:v1\n") || strings.Count(text, " done\n") != 4 || strings.Count(text, "skipped: already exists\n") != 1 ||
		!strings.HasSuffix(text, "Image is up to date\n") || strings.Count(text, "\n") != 7 {
		t.Errorf("%q", text)
	}
}
