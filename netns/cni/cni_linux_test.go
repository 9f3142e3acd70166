package cni_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/testenv"
	"github.com/podbox/podbox/netns"
	"github.com/podbox/podbox/netns/cni"
)

func TestMain(m *testing.M) {
	testenv.AsPlugin()
	testenv.Private()
	if dirs := os.Getenv(orphanEnv); dirs != "" {
		orphan(filepath.SplitList(dirs))
	}
	os.Exit(m.Run())
}

const id = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// A bed is a network of fake plugins, and a driver for it.
type bed struct {
	cni.Driver
	dir string // of the plugins
}

func newBed(t testing.TB, version string, change func(*testenv.Plugin)) bed {
	t.Helper()
	testenv.NeedRoot(t)
	b := bed{cni.Driver{ConfDir: tempDir(t), PluginDirs: []string{testenv.PluginDir(t)}, CacheDir: t.TempDir(), Time: 10 * time.Second}, t.TempDir()}
	p := testenv.Plugin{Dir: b.dir, IPs: []string{"10.7.0.2/24", "fd00:7::2/64"}, DNS: map[string]any{"nameservers": []string{"10.7.0.1"}, "domain": "seven"}}
	if change != nil {
		change(&p)
	}
	testenv.PluginConf(t, b.ConfDir, "seven", version, p)
	return b
}

// tempDir is T.TempDir, but for root alone to write to.
func tempDir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

func (b bed) attachment(t testing.TB, want cni.Request) *cni.Attachment {
	t.Helper()
	n, err := b.Find("seven")
	if err != nil {
		t.Fatal(err)
	}
	a, err := n.Attach(id, "eth0", want)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (b bed) delete(t testing.TB, a *cni.Attachment) {
	t.Helper()
	if left, err := b.Delete(context.Background(), a, "", false); err != nil || left != nil {
		t.Errorf("delete: %v, left %v", err, left)
	}
	if has := testenv.Attached(t, b.dir); len(has) > 0 {
		t.Errorf("after delete: %v", has)
	}
	if cached, err := filepath.Glob(b.CacheDir + "/results/*"); err != nil || len(cached) > 0 {
		t.Errorf("after delete in the cache: %v, %v", cached, err)
	}
}

// verbs are those of the calls since the last time.
func (b bed) verbs(t testing.TB) string {
	t.Helper()
	var words []string
	for _, c := range testenv.PluginCalls(t, b.dir) {
		words = append(words, c.Verb)
	}
	return strings.Join(words, " ")
}

const hostNetns = "/proc/self/ns/net"

// Each version of the specification is spoken.
func TestVersions(t *testing.T) {
	ctx := context.Background()
	for version, verbs := range map[string]string{
		"0.1.0": "ADD DEL", "0.2.0": "ADD DEL", "0.3.0": "ADD DEL", "0.3.1": "ADD DEL",
		"0.4.0": "ADD CHECK DEL", "1.0.0": "ADD CHECK DEL", "1.1.0": "ADD CHECK STATUS GC DEL",
	} {
		t.Run(version, func(t *testing.T) {
			b := newBed(t, version, nil)
			a := b.attachment(t, cni.Request{})
			if err := b.Add(ctx, a, hostNetns); err != nil {
				t.Fatal(err)
			}
			want := netns.Address{IP: netip.MustParseAddr("10.7.0.2"), IP6: netip.MustParseAddr("fd00:7::2"), MAC: "02:00:00:00:00:01"}
			if strings.HasPrefix(version, "0.1") || strings.HasPrefix(version, "0.2") {
				want.MAC = "" // which these do not tell
			}
			if got := a.Result.Address(); got != want {
				t.Errorf("address %+v, want %+v", got, want)
			}
			if got := fmt.Sprint(a.Result.DNS); got != "{[10.7.0.1] [seven] []}" {
				t.Errorf("DNS %s", got)
			}
			if mtu := map[bool]int{true: 1400}[version >= "1.0.0"]; a.Result.MTU != mtu {
				t.Errorf("MTU %d, want %d", a.Result.MTU, mtu)
			}
			if err := b.Check(ctx, a, hostNetns); err != nil {
				t.Error(err)
			}
			n, err := b.Find("seven")
			if err != nil {
				t.Fatal(err)
			}
			if err := b.Status(ctx, n); err != nil {
				t.Error(err)
			}
			if err := b.Collect(ctx, a, func() ([]cni.Owner, error) { return nil, nil }); err != nil {
				t.Error(err)
			}
			if has := testenv.Attached(t, b.dir); len(has) != 1 {
				t.Errorf("what is in the cache was taken for garbage: %v", has)
			}
			b.delete(t, a)
			if got := b.verbs(t); got != verbs {
				t.Errorf("calls %s, want %s", got, verbs)
			}
			b.delete(t, a) // again
		})
	}
}

// A plugin that does wrong in whatever way is told of, killed if need be, and undone.
func TestWrong(t *testing.T) {
	for what, want := range map[string]string{
		"fail":    "ADD is to fail: told by fake",
		"die":     "exit status 2: [31mpanic: out of luck",
		"hang":    "not done after 1s: context deadline exceeded",
		"flood":   "too much output: more than 1048576 bytes",
		"garbage": "add eth0 to network seven",
		"silent":  "add eth0 to network seven",
		"null":    "", // no address, as a plugin that makes none
		"noise":   "",
		"leave":   "",
		"strange": `DNS search domain "a\nnameserver 6.6.6.6": invalid value`,
	} {
		t.Run(what, func(t *testing.T) {
			b := newBed(t, "1.0.0", func(p *testenv.Plugin) { p.On = map[string]string{"ADD": what} })
			if what == "hang" {
				b.Time = time.Second
			}
			a := b.attachment(t, cni.Request{})
			start := time.Now()
			err := b.Add(context.Background(), a, hostNetns)
			if (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("error %v, want %q", err, want)
			}
			if took := time.Since(start); took > 15*time.Second {
				t.Errorf("took %v", took)
			}
			b.Time = 10 * time.Second
			if err != nil && strings.ContainsAny(err.Error(), "\n\x1b") {
				t.Errorf("error %q: more than a line", err)
			}
			switch what {
			case "hang":
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("error %v is not that the time is over", err)
				}
				wantGone(t, b)
			case "flood":
				if !errors.Is(err, cni.ErrFlood) {
					t.Errorf("error %v is not ErrFlood", err)
				}
			case "fail":
				var pe *cni.PluginError
				if !errors.As(err, &pe) || pe.Code != 11 || pe.Verb != "ADD" || len(testenv.Attached(t, b.dir)) != 1 {
					t.Errorf("error %#v", err)
				}
			}
			b.delete(t, a)
		})
	}
}

// wantGone waits until the plugin that hung, and what it had started, are gone.
func wantGone(t testing.TB, b bed) {
	t.Helper()
	path := filepath.Join(b.dir, "log", "pid")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	for _, word := range strings.Fields(string(text)) {
		pid, err := strconv.Atoi(word)
		if err != nil {
			t.Fatal(err)
		}
		gone := func() bool { return unix.Kill(pid, 0) == unix.ESRCH }
		for end := time.Now().Add(5 * time.Second); !gone() && time.Now().Before(end); {
			time.Sleep(10 * time.Millisecond)
		}
		if !gone() {
			t.Errorf("process %d runs on", pid)
		}
	}
}

// The caller's context ends an operation too.
func TestCancel(t *testing.T) {
	b := newBed(t, "1.0.0", func(p *testenv.Plugin) { p.On = map[string]string{"ADD": "hang"} })
	a := b.attachment(t, cni.Request{})
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		for ctx.Err() == nil {
			if _, err := os.Stat(filepath.Join(b.dir, "log", "pid")); err == nil {
				cancel()
			}
			time.Sleep(5 * time.Millisecond)
		}
	}()
	if err := b.Add(ctx, a, hostNetns); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	wantGone(t, b)
	if err := b.Add(ctx, a, hostNetns); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	b.delete(t, a)
	if got := b.verbs(t); got != "ADD DEL" {
		t.Errorf("calls %s", got)
	}
}

const orphanEnv = "PODBOX_TEST_ORPHAN"

func orphan(dirs []string) {
	d := cni.Driver{ConfDir: dirs[0], PluginDirs: dirs[1:2], CacheDir: dirs[2]}
	n, err := d.Find("seven")
	if err == nil {
		var a *cni.Attachment
		if a, err = n.Attach(id, "eth0", cni.Request{}); err == nil {
			err = d.Add(context.Background(), a, hostNetns)
		}
	}
	fmt.Println(err)
	os.Exit(1)
}

// Whoever collects waits for whoever adds, and sees what was added.
func TestCollectWaits(t *testing.T) {
	b := newBed(t, "1.1.0", func(p *testenv.Plugin) { p.On = map[string]string{"ADD": "hang"} })
	a := b.attachment(t, cni.Request{})
	added := make(chan error, 1)
	hasty := b.Driver
	hasty.Time = time.Second
	go func() { added <- hasty.Add(context.Background(), a, hostNetns) }()
	for range 900 {
		if _, err := os.Stat(filepath.Join(b.dir, "log", "pid")); err == nil {
			break
		}
		time.Sleep(time.Millisecond)
	}
	err := b.Collect(context.Background(), a, func() ([]cni.Owner, error) {
		select {
		case err := <-added:
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
		default:
			t.Error("collected while another added")
		}
		return []cni.Owner{{Container: id, Interface: "eth0"}}, nil
	})
	if err != nil {
		t.Error(err)
	}
	wantGone(t, b)
	b.delete(t, a)
}

// A plugin ends with the program that has run it.
func TestCallerKilled(t *testing.T) {
	b := newBed(t, "1.0.0", func(p *testenv.Plugin) { p.On = map[string]string{"ADD": "hang"} })
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), orphanEnv+"="+strings.Join([]string{b.ConfDir, b.PluginDirs[0], b.CacheDir}, ":"))
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(b.dir, "log", "pid")
	for range 500 {
		if _, err := os.Stat(path); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	cmd.Process.Kill()
	cmd.Wait()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	plugin, child, _ := strings.Cut(string(text), " ")
	for _, words := range []string{plugin, child} {
		if err := os.WriteFile(path, []byte(words), 0o600); err != nil {
			t.Fatal(err)
		}
		wantGone(t, b)
		// What it started in its turn does not end with it.
		if err := cni.KillStrays(id); err != nil {
			t.Error(err)
		}
	}
	b.delete(t, b.attachment(t, cni.Request{}))
}

// A plugin is given its streams, and what libcni says; nothing else of ours.
func TestInherited(t *testing.T) {
	f, err := os.Open("/dev/zero")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETFD, 0); err != nil { // not close-on-exec
		t.Fatal(err)
	}
	b := newBed(t, "1.0.0", nil)
	a := b.attachment(t, cni.Request{})
	if err := b.Add(context.Background(), a, hostNetns); err != nil {
		t.Fatal(err)
	}
	for _, c := range testenv.PluginCalls(t, b.dir) {
		if c.Container != id || c.Interface != "eth0" || c.Netns != hostNetns {
			t.Errorf("told %+v", c)
		}
		pipes := 0
		for _, fd := range c.FDs {
			if strings.Contains(fd, "/dev/zero") {
				t.Errorf("inherited %s", fd)
			}
			if strings.Contains(fd, "pipe:") {
				pipes++
			}
		}
		if pipes != 3 {
			t.Errorf("descriptors %v", c.FDs)
		}
	}
	b.delete(t, a)
}

// What is wanted of a network reaches the plugins that have the capability; addresses reach
// the others by another way; the rest is refused before any is run.
func TestRequest(t *testing.T) {
	want := cni.Request{
		Addresses: []netip.Prefix{netip.MustParsePrefix("10.7.0.9/24"), netip.MustParsePrefix("fd00:7::9/128")},
		MAC:       "02:00:00:00:07:07",
		Ports: []netns.Port{
			{HostPort: 24001, Port: 1, Count: 2, Protocol: netns.UDP},
			{HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: 24010, Port: 10},
		},
		Bandwidth: netns.Bandwidth{Ingress: 8_000_000, Egress: 1_000},
	}
	b := newBed(t, "1.0.0", func(p *testenv.Plugin) {
		p.Capabilities = map[string]bool{"portMappings": true, "bandwidth": true, "ips": true, "mac": true, "dns": false}
	})
	a := b.attachment(t, want)
	if err := b.Add(context.Background(), a, hostNetns); err != nil {
		t.Fatal(err)
	}
	if !a.Result.Gave(want.Addresses) || a.Result.MAC != want.MAC {
		t.Errorf("got %+v", a.Result)
	}
	if a.Result.Gave([]netip.Prefix{netip.MustParsePrefix("10.7.0.8/24")}) {
		t.Error("gave what it did not give")
	}
	calls := testenv.PluginCalls(t, b.dir)
	got := fmt.Sprint(calls[0].Stdin["runtimeConfig"])
	const wanted = "map[bandwidth:map[egressBurst:1.048576e+06 egressRate:1000 ingressBurst:1.048576e+06 ingressRate:8e+06] " +
		"ips:[10.7.0.9/24 fd00:7::9] mac:02:00:00:00:07:07 portMappings:[" +
		"map[containerPort:1 hostPort:24001 protocol:udp] map[containerPort:2 hostPort:24002 protocol:udp] " +
		"map[containerPort:10 hostIP:127.0.0.1 hostPort:24010 protocol:tcp]]]"
	if got != wanted {
		t.Errorf("runtimeConfig\n%s, want\n%s", got, wanted)
	}
	if calls[0].Stdin["args"] != nil {
		t.Errorf("args %v beside capabilities", calls[0].Stdin["args"])
	}
	b.delete(t, a)

	b = newBed(t, "1.0.0", nil)
	n, err := b.Find("seven")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []cni.Request{{Ports: want.Ports}, {Bandwidth: netns.Bandwidth{Ingress: 1}}, {Bandwidth: netns.Bandwidth{Egress: 1}}} {
		if _, err := n.Attach(id, "eth0", want); !errors.Is(err, cni.ErrNotSupported) {
			t.Errorf("%+v: %v", want, err)
		}
	}
	a = b.attachment(t, cni.Request{Addresses: want.Addresses, MAC: want.MAC})
	if err := b.Add(context.Background(), a, hostNetns); err != nil {
		t.Fatal(err)
	}
	if !a.Result.Gave(want.Addresses) || a.Result.MAC != want.MAC {
		t.Errorf("by args: got %+v", a.Result)
	}
	b.delete(t, a)
}

// What is gone since Add is no obstacle to Delete but for the plugins themselves, and no
// obstacle at all with force.
func TestGone(t *testing.T) {
	ctx := context.Background()
	b := newBed(t, "1.0.0", nil)
	a := b.attachment(t, cni.Request{})
	if err := b.Add(ctx, a, hostNetns); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{b.ConfDir, b.CacheDir} {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	there := b.PluginDirs
	b.PluginDirs = []string{"/nonexistent"}
	var missing *cni.MissingError
	if _, err := b.Delete(ctx, a, "", false); !errors.As(err, &missing) || missing.Plugin != "fake" || !errors.Is(err, cni.ErrNoPlugin) {
		t.Errorf("without the plugin: %v", err)
	}
	if left, err := b.Delete(ctx, a, "", true); err != nil || len(left) != 1 || !errors.Is(left[0], cni.ErrNoPlugin) {
		t.Errorf("with force: left %v, %v", left, err)
	}
	b.PluginDirs = there
	b.delete(t, a)
}

// GC is told of those that are valid: ours, and those in the cache; others go.
func TestCollect(t *testing.T) {
	ctx := context.Background()
	b := newBed(t, "1.1.0", nil)
	a := b.attachment(t, cni.Request{})
	if err := b.Add(ctx, a, hostNetns); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ours-eth0", "stale-eth0"} {
		if err := os.WriteFile(filepath.Join(b.dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ours := func() ([]cni.Owner, error) { return []cni.Owner{{Container: "ours", Interface: "eth0"}}, nil }
	if err := b.Collect(ctx, a, ours); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(testenv.Attached(t, b.dir), " "); got != id+"-eth0 ours-eth0" {
		t.Errorf("left %s", got)
	}
}

// A plugin can say that it is not ready.
func TestStatus(t *testing.T) {
	b := newBed(t, "1.1.0", func(p *testenv.Plugin) { p.On = map[string]string{"STATUS": "fail"} })
	n, err := b.Find("seven")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Status(context.Background(), n); err == nil || !strings.Contains(err.Error(), "STATUS is to fail") {
		t.Error(err)
	}
	b.PluginDirs = []string{"/nonexistent"}
	if err := b.Status(context.Background(), n); !errors.Is(err, cni.ErrNoPlugin) {
		t.Error(err)
	}
}
