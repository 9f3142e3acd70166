package guardian

import (
	"bytes"
	"debug/elf"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/memfd"
)

// start runs a shell script under a guardian; what it writes to descriptor 3 is told.
func start(t *testing.T, script string) (cmd *exec.Cmd, told *os.File) {
	t.Helper()
	self, err := memfd.New("guardian", Binary())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { self.Close() })
	sh, err := os.Open("/bin/busybox")
	if err != nil {
		t.Fatal(err)
	}
	defer sh.Close()
	told, theirs, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { told.Close() })
	defer theirs.Close()
	cmd = exec.Command(fmt.Sprintf("/proc/self/fd/%d", self.Fd()))
	cmd.Args = Args([]string{"sh", "-c", script})
	cmd.ExtraFiles = []*os.File{theirs, sh}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd, told
}

func TestEndsWithProgram(t *testing.T) {
	for _, want := range []int{0, 7} {
		cmd, _ := start(t, fmt.Sprintf("exit %d", want))
		_ = cmd.Wait()
		if got := cmd.ProcessState.ExitCode(); got != want {
			t.Errorf("exit status %d, want %d", got, want)
		}
	}
}

func TestStartsAgain(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	begin := time.Now()
	cmd, told := start(t, fmt.Sprintf("echo run >>%[1]s; echo ready >&3; exec 3>&-; [ $(busybox wc -l <%[1]s) = 3 ] && exit 5; kill -9 $$", log))
	_ = cmd.Wait()
	if got := cmd.ProcessState.ExitCode(); got != 5 {
		t.Errorf("exit status %d, want 5", got)
	}
	if took := time.Since(begin); took < 750*time.Millisecond {
		t.Errorf("no time between the starts: %v", took)
	}
	var b bytes.Buffer
	if _, err := b.ReadFrom(told); err != nil || b.String() != "ready\n" {
		t.Errorf("told %q, %v; want the first start only", b.String(), err)
	}
}

// The program does not have its own file open, nor the guardian's.
func TestDescriptors(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	cmd, _ := start(t, "busybox ls -l /proc/$$/fd >"+out+"; true")
	_ = cmd.Wait()
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if s := string(b); !strings.Contains(s, " 3 -> pipe:") || strings.Contains(s, "-> /bin/busybox") || strings.Contains(s, "memfd:guardian") {
		t.Errorf("descriptors:\n%s", s)
	}
}

// What the program leaves behind is reaped, while it runs and before it runs again.
func TestReaps(t *testing.T) {
	dir := t.TempDir()
	first, second := filepath.Join(dir, "first"), filepath.Join(dir, "second")
	// An orphan that ends by itself, and one that does when its parent was killed.
	cmd, _ := start(t, fmt.Sprintf(`[ -e %[2]s ] && { busybox sleep 3; exit; }
		(busybox sleep 0.01 & echo $! >%[1]s); busybox sleep 0.1 & echo $! >%[2]s; busybox sleep 0.05; kill -9 $$`, first, second))
	for _, file := range []string{first, second} {
		gone := false
		for range 200 {
			b, err := os.ReadFile(file)
			if pid := strings.TrimSpace(string(b)); err == nil && pid != "" {
				_, err := os.Stat("/proc/" + pid)
				if gone = err != nil; gone {
					break
				}
			}
			time.Sleep(10 * time.Millisecond)
		}
		if !gone {
			t.Errorf("%s: there still is that process", filepath.Base(file))
		}
	}
	_ = cmd.Process.Kill()
}

func TestNoArguments(t *testing.T) {
	cmd, _ := start(t, "")
	cmd2 := exec.Command(cmd.Path)
	cmd2.Args = []string{"guardian"}
	_ = cmd2.Run()
	if got := cmd2.ProcessState.ExitCode(); got != 125 {
		t.Errorf("exit status %d, want 125", got)
	}
}

func TestBinaries(t *testing.T) {
	for arch, machine := range map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64} {
		f, err := elf.Open("guardian_linux_" + arch)
		if err != nil {
			t.Fatal(err)
		}
		if f.Machine != machine || f.Type != elf.ET_EXEC {
			t.Errorf("%s: %v %v", arch, f.Machine, f.Type)
		}
		for _, p := range f.Progs {
			if p.Type == elf.PT_LOAD && p.Flags&elf.PF_W != 0 {
				t.Errorf("%s: has writable data", arch)
			}
		}
		f.Close()
	}
}

// The program, whose threads share the table of descriptors, need not wait until it has grown.
func TestTableOfDescriptors(t *testing.T) {
	// One that we have inherited, and hand down, may be a high one.
	if err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out")
	cmd, _ := start(t, "busybox grep FDSize: /proc/$$/status >"+out+"; true")
	_ = cmd.Wait()
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	var size int
	if _, err := fmt.Sscanf(string(b), "FDSize: %d", &size); err != nil || size < 256 {
		t.Errorf("%q, %v; want 256", b, err)
	}
}
