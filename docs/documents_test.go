// Package docs holds the documents. Its tests run what they show, and compare.
package docs

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/podbox/podbox/internal/testenv"
)

var update = flag.Bool("update", false, "write what commands show into the documents")

// TestDocuments runs the commands of each document on a host of its own, in the order in
// which they stand, and compares what they write with what the document shows.
//
//	```console          commands after "# ", and what they show
//	```console not run  the same for reading only
//	```yaml web.yaml    a file, in the directory that the commands are run in
//
// A command that fails shows why.
func TestDocuments(t *testing.T) {
	testenv.NeedRoot(t)
	for _, tool := range []string{"bash", "busybox", "ip", "ipcs", "nft", "pgrep"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("CI has no %s", tool)
			}
			t.Skipf("no %s on this machine", tool)
		}
	}
	bin := programs(t)
	run := func(name, path string, do func(*testing.T, *document, *shell)) {
		t.Run(name, func(t *testing.T) {
			d := readDocument(t, path)
			do(t, d, newShell(t, bin))
			if *update {
				d.write(t)
			}
		})
	}
	run("picture", "../README.md", picture)
	run("verbs", "../README.md", verbs)
	for _, path := range []string{"../README.md", "TUTORIAL.md", "NETWORK.md", "HOST.md"} {
		run(filepath.Base(path), path, follow)
	}
}

func follow(t *testing.T, d *document, s *shell) {
	steps := 0
	for b, ok := d.next(0); ok; b, ok = d.next(b.end + 1) {
		kind, name, _ := strings.Cut(b.info, " ")
		switch {
		case kind == "yaml" && name != "":
			s.file(t, name, strings.Join(d.lines[b.begin:b.end], "\n")+"\n")
		case b.info == "console":
			for step, ok := d.step(b, b.begin); ok; step, ok = d.step(b, step.end) {
				steps++
				began := time.Now()
				written := s.do(t, d, step)
				t.Logf("%7.3f s  %s", time.Since(began).Seconds(), step.command)
				if same(d.lines[step.begin:step.end], written) {
					continue
				}
				if !*update {
					t.Errorf("%s:%d: # %s\nshows:\n%s\nwrote:\n%s", d.path, step.begin, step.command,
						strings.Join(d.lines[step.begin:step.end], "\n"), strings.Join(written, "\n"))
					continue
				}
				d.replace(step.begin, step.end, written)
				b.end += len(written) - (step.end - step.begin)
				step.end = step.begin + len(written)
			}
		}
	}
	if steps == 0 {
		t.Errorf("%s shows no command", d.path)
	}
	if left := s.left(t); len(left) > 0 && !t.Failed() {
		t.Errorf("%s leaves:\n%s", d.path, strings.Join(left, "\n"))
	}
}

// looks matches commands that change nothing and can be repeated.
var looks = regexp.MustCompile(`^[^;&]* wget |^podbox (ls|ps|logs|top|port|ipc)( [^;&]*)?$`)

// do has one command done and returns what it writes.
func (s *shell) do(t *testing.T, d *document, step step) []string {
	t.Helper()
	written, status, err := s.run(step.command)
	if err != nil {
		t.Fatalf("%s:%d: # %s: %v\n%s", d.path, step.begin, step.command, err, strings.Join(written, "\n"))
	}
	// What runs on in the background begins and writes when it does.
	if strings.HasSuffix(step.command, "&") {
		time.Sleep(200 * time.Millisecond)
		for range 100 {
			if now := slices.Concat(written, s.written()); *update || same(d.lines[step.begin:step.end], now) {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
		if *update {
			time.Sleep(500 * time.Millisecond)
		}
		s.mu.Lock()
		written = append(written, lines(s.out.String())...)
		s.out.Reset()
		s.mu.Unlock()
	}
	// Who types is slower than a server on its way up or a process on its way out.
	for n := 0; n < 30 && looks.MatchString(step.command) && !same(d.lines[step.begin:step.end], written); n++ {
		time.Sleep(50 * time.Millisecond)
		if written, status, err = s.run(step.command); err != nil {
			t.Fatalf("%s:%d: # %s: %v", d.path, step.begin, step.command, err)
		}
	}
	if status != 0 && len(written) == 0 {
		t.Errorf("%s:%d: # %s: exit status %d", d.path, step.begin, step.command, status)
	}
	for i, line := range written {
		written[i] = strings.TrimRight(line, " ")
	}
	return written
}
