package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/cmd/internal/kubecli"
	"github.com/podbox/podbox/cmd/internal/twin"
	"github.com/podbox/podbox/image"
	"github.com/podbox/podbox/image/ingest"
	"github.com/podbox/podbox/internal/testenv"
)

// The main thread is what /proc/self shows of a process. Held by the main
// goroutine it is never the one that a script moves to another namespace.
func init() { runtime.LockOSThread() }

// TestMain makes the test binary podbox itself when it is called by that name, the
// supervisor that it starts, and podbox-kube. $ROOT and $STATE stand for the --root and --state-dir
// that a script would have to give each time; one that it does give wins.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == twin.Supervise {
		runtime.UnlockOSThread()
		main()
	}
	// A program built by go test -race sleeps for a second before it ends.
	if _, set := os.LookupEnv("GORACE"); !set {
		os.Setenv("GORACE", "atexit_sleep_ms=0")
	}
	testscript.Main(m, map[string]func(){
		"podbox": func() {
			runtime.UnlockOSThread()
			args := os.Args[1:]
			if root := os.Getenv("ROOT"); root != "" {
				// After the verb, which podbox expects to come first.
				at := 0
				if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
					at = 1
				}
				args = slices.Insert(slices.Clone(args), at, "--root", root, "--state-dir", os.Getenv("STATE"))
			}
			os.Exit(run(args))
		},
		"podbox-kube": func() {
			runtime.UnlockOSThread()
			os.Exit(kubecli.Run(os.Args[1:]))
		},
		"registry": registryMain,
		"talk": func() {
			if err := talk(os.Args[1:]); err != nil {
				fmt.Fprintln(os.Stderr, "talk:", err)
				os.Exit(1)
			}
		},
	})
}

// unprivileged are the scripts that say something true without root.
var unprivileged = []string{"completion", "kube", "manual", "nonroot", "version"}

// TestScript runs ../../testdata/script/*.txtar, one script a verb. Each has a
// network namespace to itself, which plays the host, and must leave nothing.
// Beyond the commands of testscript there are:
//
//	status N PROGRAM...  run a program that ends with this exit status
//	nobody N PROGRAM...  the same as user 65534
//	until PROGRAM...     run a program again and again, until it succeeds
//	let NAME PROGRAM...  set a variable to what a program prints
//	signal NAME PID      send a signal
//	gone PID             wait until a process has ended
//	rootfs DIR           make a root directory for containers: BusyBox in /bin, the
//	                     user ann of groups ann and staff
//	image NAME DIR [CONFIG]
//	                     make an image of a root directory, to be run as the JSON in
//	                     a file says
//	registry serve ADDR, registry push REF DIR, registry save FILE NAME DIR
//	                     a registry of images, and images: see runRegistry
//	talk listen ADDR TEXT, talk dial ADDR, talk mq NAME TEXT
//	                     a TCP server that says one thing, its client, and
//	                     a sender to a POSIX message queue
func TestScript(t *testing.T) {
	scripts, err := filepath.Glob("../../testdata/script/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() != 0 {
		if os.Getenv("PODBOX_PRIVILEGED") == "1" {
			t.Fatal("PODBOX_PRIVILEGED=1, but not root")
		}
		scripts = slices.DeleteFunc(scripts, func(path string) bool {
			return !slices.Contains(unprivileged, strings.TrimSuffix(filepath.Base(path), ".txtar"))
		})
	}
	testscript.Run(t, testscript.Params{
		Files:              scripts,
		RequireUniqueNames: true,
		Setup:              setUp,
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "root":
				return os.Geteuid() == 0, nil
			case "ipv6":
				_, err := os.Stat("/proc/sys/net/ipv6")
				return err == nil, nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"status": status,
			"nobody": nobody,
			"until":  until,
			"let":    let,
			"signal": signalCmd,
			"gone":   gone,
			"rootfs": rootfsCmd,
			"image":  imageCmd,
		},
	})
}

// setUp gives a script its host. testscript calls it on the goroutine that
// starts the script's programs.
func setUp(env *testscript.Env) error {
	t := env.T().(testing.TB)
	root := filepath.Join(env.WorkDir, "run")
	env.Setenv("ROOT", root)
	env.Setenv("STATE", stateDir(root))
	if os.Geteuid() != 0 {
		return nil
	}
	// A script may ask what podbox tells an unprivileged user, who must be able
	// to execute it.
	if path, err := exec.LookPath("podbox"); err == nil {
		for _, dir := range []string{filepath.Dir(filepath.Dir(path)), filepath.Dir(env.WorkDir)} {
			if err := os.Chmod(dir, 0o711); err != nil {
				return err
			}
		}
	}
	h, err := newHost(root)
	if err != nil {
		return err
	}
	env.Setenv("NETNS", h.netns)
	env.Defer(func() { h.leave(t) })
	return nil
}

// exitStatus takes the exit status out of the error of a command.
func exitStatus(err error) (int, error) {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0, nil
	case errors.As(err, &exit) && exit.Exited():
		return exit.ExitCode(), nil
	}
	return -1, err
}

func wantStatus(ts *testscript.TestScript, want string, err error) {
	got, err := exitStatus(err)
	ts.Check(err)
	if fmt.Sprint(got) != want {
		ts.Fatalf("exit status %d, want %s", got, want)
	}
}

func usage(ts *testscript.TestScript, wrong bool, text string) {
	if wrong {
		ts.Fatalf("usage: %s", text)
	}
}

func status(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg || len(args) < 2, "status N PROGRAM...")
	err := ts.Exec(args[1], args[2:]...)
	wantStatus(ts, args[0], err)
}

func nobody(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg || len(args) < 2, "nobody N PROGRAM...")
	path, err := exec.LookPath(args[1])
	ts.Check(err)
	cmd := exec.Command(path, args[2:]...)
	cmd.Args[0] = args[1]
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=" + ts.Getenv("PATH"), "ROOT=" + ts.Getenv("ROOT"), "STATE=" + ts.Getenv("STATE")}
	cmd.Stdout, cmd.Stderr = ts.Stdout(), ts.Stderr()
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	wantStatus(ts, args[0], cmd.Run())
}

func until(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg || len(args) < 1, "until PROGRAM...")
	deadline := time.Now().Add(testenv.Patience(10 * time.Second))
	for ts.Exec(args[0], args[1:]...) != nil {
		if time.Now().After(deadline) {
			ts.Fatalf("still fails")
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func let(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg || len(args) < 2, "let NAME PROGRAM...")
	ts.Check(ts.Exec(args[1], args[2:]...))
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile("stdout")))
}

func signalCmd(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg || len(args) != 2, "signal NAME PID")
	pid, err := strconv.Atoi(args[1])
	if err != nil || pid <= 1 {
		ts.Fatalf("signal: PID %q", args[1])
	}
	ts.Check(unix.Kill(pid, unix.SignalNum("SIG"+args[0])))
}

// gone counts a zombie as gone: when it is reaped is up to the machine's init.
func gone(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg || len(args) != 1, "gone PID")
	deadline := time.Now().Add(testenv.Patience(10 * time.Second))
	for {
		// Not by its command line, which it loses before it ends.
		stat, err := os.ReadFile("/proc/" + args[0] + "/stat")
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("process %s is still there", args[0])
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func rootfsCmd(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg || len(args) != 1, "rootfs DIR")
	ts.Check(makeRootfs(ts.MkAbs(args[0])))
}

func imageCmd(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg || len(args) < 2 || len(args) > 3, "image NAME DIR [CONFIG]")
	store, err := image.Open(filepath.Join(ts.Getenv("STATE"), "images"))
	ts.Check(err)
	var config image.Config
	if len(args) == 3 {
		ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[2])), &config))
	}
	_, err = ingest.ImportDir(context.Background(), store, ts.MkAbs(args[1]), config, ingest.Options{Names: args[:1]})
	ts.Check(err)
}

// busybox is the static one of Debian's busybox-static.
const busybox = "/bin/busybox"

// makeRootfs makes a root directory for containers.
func makeRootfs(dir string) error {
	program, err := os.ReadFile(busybox)
	if err != nil {
		return err
	}
	applets, err := exec.Command(busybox, "--list").Output()
	if err != nil {
		return fmt.Errorf("%s --list: %w", busybox, err)
	}
	for _, d := range []string{"bin", "etc", "root", "home/ann", "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return err
		}
	}
	for name, text := range map[string]string{
		"passwd": "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000:Ann:/home/ann:/bin/sh\n",
		"group":  "root:x:0:\nann:x:1000:\nstaff:x:50:ann\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, "etc", name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "bin/busybox"), program, 0o755); err != nil {
		return err
	}
	for name := range strings.FieldsSeq(string(applets)) {
		if err := os.Symlink("busybox", filepath.Join(dir, "bin", name)); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return errors.Join(os.Chmod(filepath.Join(dir, "tmp"), 0o1777), os.Chown(filepath.Join(dir, "home/ann"), 1000, 1000))
}

// TestHostOfScript holds what all scripts rely on: that the programs which a
// goroutine starts after newHost are in the namespace that it has made, and that
// nothing else of the test is.
func TestHostOfScript(t *testing.T) {
	h := newTestHost(t)
	ours, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	if h.netns == ours {
		t.Fatal("no network namespace of its own")
	}
	out, err := exec.Command("readlink", "/proc/self/ns/net").Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(string(out)); got != h.netns {
		t.Errorf("a program is in %s, want %s", got, h.netns)
	}
	elsewhere := make(chan string)
	go func() {
		link, _ := os.Readlink("/proc/thread-self/ns/net")
		elsewhere <- link
	}()
	if got := <-elsewhere; got != ours {
		t.Errorf("another goroutine is in %s, want %s", got, ours)
	}
}

// command is podbox, to be run below h.
func (h *host) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "podbox", args...)
	cmd.Env = append(os.Environ(), "ROOT="+h.root, "STATE="+stateDir(h.root))
	return cmd
}

// podbox runs podbox, which must succeed without a word on stderr, and returns
// what it prints.
func (h *host) podbox(t *testing.T, args ...string) string {
	t.Helper()
	var stderr strings.Builder
	cmd := h.command(t.Context(), args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil || stderr.Len() > 0 {
		t.Fatalf("podbox %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return strings.TrimSpace(string(out))
}
