package sandbox

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/testenv"
	"github.com/podbox/podbox/netns"
	"github.com/podbox/podbox/netns/cni"
)

// A plugBed is a runtime with networks one and two, of plugins that are the test program.
type plugBed struct {
	rt     *Runtime
	before testenv.World
	one    testenv.Plugin
	two    testenv.Plugin
}

func newPlugBed(t testing.TB, hook func(string) error) *plugBed {
	t.Helper()
	testenv.NeedRoot(t)
	root := t.TempDir()
	for _, dir := range []string{"run", "conf", "state"} {
		if err := os.Mkdir(filepath.Join(root, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	b := &plugBed{
		one: testenv.Plugin{Dir: filepath.Join(root, "one"), IPs: []string{"10.1.0.2/24", "fd00:1::2/64"}, Capabilities: map[string]bool{"portMappings": true}},
		two: testenv.Plugin{Dir: filepath.Join(root, "two"), IPs: []string{"10.2.0.2/24"}, DNS: map[string]any{"nameservers": []string{"10.2.0.1"}, "search": []string{"two.example"}}},
	}
	rt, err := Open(Options{Root: filepath.Join(root, "run"), StateDir: filepath.Join(root, "state"), CNI: plugDriver(root), hook: hook})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(testenv.PluginDir(t), filepath.Join(root, "bin")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := rt.birth.open(); err != nil {
		t.Fatal(err)
	}
	b.rt = rt
	b.configure(t, nil)
	t.Cleanup(func() { rt.Close() })
	b.before = testenv.Look(t, rt.root)
	return b
}

func plugDriver(root string) cni.Driver {
	return cni.Driver{
		ConfDir: filepath.Join(root, "conf"), PluginDirs: []string{filepath.Join(root, "bin")},
		CacheDir: filepath.Join(root, "cache"), Time: 10 * time.Second,
	}
}

// configure writes the networks, of which the second goes wrong as on says.
func (b *plugBed) configure(t testing.TB, on map[string]string) {
	t.Helper()
	b.two.On = on
	testenv.PluginConf(t, b.rt.cni.ConfDir, "one", "1.0.0", b.one)
	testenv.PluginConf(t, b.rt.cni.ConfDir, "two", "1.1.0", b.two)
}

// calls returns what the plugins of both networks were called for since the last time.
func (b *plugBed) calls(t testing.TB) string {
	t.Helper()
	var all []string
	for _, p := range []testenv.Plugin{b.one, b.two} {
		words := []string{filepath.Base(p.Dir) + ":"}
		for _, c := range testenv.PluginCalls(t, p.Dir) {
			words = append(words, c.Verb)
		}
		all = append(all, strings.Join(words, " "))
	}
	return strings.Join(all, ", ")
}

// empty checks that nothing is left of any pod.
func (b *plugBed) empty(t testing.TB, when string) {
	t.Helper()
	b.rt.background.Wait()
	b.before.Same(t, b.rt.root, when)
	for _, p := range []testenv.Plugin{b.one, b.two} {
		if left := testenv.Attached(t, p.Dir); len(left) > 0 {
			t.Errorf("%s: attachments %v", when, left)
		}
	}
	left, err := filepath.Glob(filepath.Join(b.rt.stateDir, "pods", "*"))
	cached, err2 := filepath.Glob(filepath.Join(b.rt.cni.CacheDir, "results", "*"))
	if left = append(left, cached...); err != nil || err2 != nil || len(left) > 0 {
		t.Errorf("%s: left %v, %v, %v", when, left, err, err2)
	}
}

var plugSpec = Spec{Name: "c", Network: netns.CNI("one", "two"), Ports: []netns.Port{{HostPort: 24100, Port: 80}}}

// The life of a pod in two networks.
func TestPlugged(t *testing.T) {
	ctx := context.Background()
	b := newPlugBed(t, nil)
	s := create(t, b.rt, plugSpec)
	i := info(t, s)
	if i.State != Running || i.IP != "10.1.0.2" || i.IP6 != "fd00:1::2" || i.MAC != "02:00:00:00:00:01" || len(i.Networks) != 2 ||
		i.Networks[1].Interface != "eth1" || i.Network != "cni:one,two" {
		t.Errorf("%+v", i)
	}
	read := func(name string) string {
		text, err := os.ReadFile(s.File(name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	if got := read("resolv.conf"); got != "search two.example\nnameserver 10.2.0.1\n" {
		t.Errorf("resolv.conf %q", got)
	}
	if got := read("hosts"); !strings.Contains(got, "10.1.0.2\tc\n") || !strings.Contains(got, "fd00:1::2\tc\n") || strings.Contains(got, "127.0.1.1") {
		t.Errorf("hosts %q", got)
	}
	for n, p := range []testenv.Plugin{b.one, b.two} {
		for _, c := range testenv.PluginCalls(t, p.Dir) {
			ports := fmt.Sprint(c.Stdin["runtimeConfig"])
			if c.Container != s.ID() || c.Interface != fmt.Sprintf("eth%d", n) || c.Netns != filepath.Join(i.Dir, "netns") ||
				!strings.HasPrefix(c.Inode, "net:[") || strings.Contains(ports, "24100") != (n == 0) {
				t.Errorf("network %d was told %+v", n, c)
			}
		}
	}
	if _, err := os.Lstat(filepath.Join(i.Dir, "netns")); err == nil {
		t.Error("the path of the namespace is left")
	}
	if err := s.Publish(ctx, netns.Port{HostPort: 24101, Port: 1}); !errors.Is(err, ErrInvalid) {
		t.Errorf("publish: %v", err)
	}
	// Another pod has the ports, and cannot get the same.
	var taken *PublishedError
	other := plugSpec
	other.Name = "d"
	if _, err := b.rt.Create(ctx, other); !errors.As(err, &taken) || taken.Pod != "c" {
		t.Errorf("the same port: %v", err)
	}
	if got := b.calls(t); got != "one:, two:" {
		t.Errorf("calls %s", got)
	}

	// A new pause for living members finds the network as it was.
	joinPod(t, s, "sleep", "1000")
	killPause(t, s)
	if err := s.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if got := b.calls(t); got != "one: CHECK, two: CHECK" {
		t.Errorf("heal: calls %s", got)
	}
	if err := s.Stop(ctx, StopOptions{Grace: -1}); err != nil {
		t.Fatal(err)
	}
	if got := b.calls(t); got != "one: DEL, two: DEL" {
		t.Errorf("stop: calls %s", got)
	}
	if i := info(t, s); i.State != Stopped || i.IP != "" || i.Networks != nil {
		t.Errorf("stopped: %+v", i)
	}
	// It asks for what it had, although the network would now give others.
	b.one.IPs, b.two.IPs = []string{"10.1.0.77/24"}, []string{"10.2.0.77/24"}
	b.configure(t, nil)
	if err := s.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if i := info(t, s); i.IP != "10.1.0.2" || i.IP6 != "fd00:1::2" || i.Networks[1].IPs[0].Address.String() != "10.2.0.2/24" {
		t.Errorf("started: %+v", i)
	}
	if got := b.calls(t); got != "one: ADD, two: ADD" {
		t.Errorf("start: calls %s", got)
	}
	// Somebody else has got it meanwhile.
	if err := s.Stop(ctx, StopOptions{Grace: -1}); err != nil {
		t.Fatal(err)
	}
	b.one.Taken = []string{"10.1.0.2/24"}
	b.configure(t, nil)
	b.calls(t)
	if err := s.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if i := info(t, s); i.IP != "10.1.0.77" || i.IP6 != "" || !strings.Contains(read("hosts"), "10.1.0.77\tc\n") {
		t.Errorf("started elsewhere: %+v", i)
	}
	if got := b.calls(t); got != "one: ADD DEL ADD, two: ADD" {
		t.Errorf("start: calls %s", got)
	}
	// A pause that died with all.
	killPause(t, s)
	if err := s.Start(ctx); err != nil {
		t.Fatal(err)
	}
	calls := testenv.PluginCalls(t, b.one.Dir)
	if len(calls) != 2 || calls[0].Verb != "DEL" || calls[0].Netns != "" || calls[1].Verb != "ADD" {
		t.Errorf("start with dead pause: calls %+v", calls)
	}
	if err := s.Remove(ctx); err != nil {
		t.Fatal(err)
	}
	b.empty(t, "removed")
}

// What cannot be is found before a plugin is run, and leaves nothing.
func TestPluggedRefused(t *testing.T) {
	b := newPlugBed(t, nil)
	with := func(change func(*Spec)) Spec {
		s := plugSpec
		s.Ports = nil
		change(&s)
		return s
	}
	for what, tt := range map[string]struct {
		spec Spec
		want error
		text string
	}{
		"no network":       {with(func(s *Spec) { s.Network.Names = []string{"one", "three"} }), cni.ErrNoNetwork, `network "three": no such CNI network in ` + b.rt.cni.ConfDir + ", which has one, two"},
		"no port mappings": {with(func(s *Spec) { s.Network.Names, s.Ports = []string{"two"}, plugSpec.Ports }), cni.ErrNotSupported, "network two: port 24100:80/tcp: not supported by the network: none of its plugins has the capability portMappings"},
		"ranges":           {with(func(s *Spec) { s.Network.Range = netns.DefaultRange }), ErrInvalid, "want no range"},
	} {
		if _, err := b.rt.Create(context.Background(), tt.spec); !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: %v", what, err)
		}
	}
	b.rt.cni.PluginDirs = []string{"/nonexistent"}
	if _, err := b.rt.Create(context.Background(), with(func(*Spec) {})); !errors.Is(err, cni.ErrNoPlugin) {
		t.Errorf("no plugin: %v", err)
	}
	if got := b.calls(t); got != "one:, two:" {
		t.Errorf("calls %s", got)
	}
	b.empty(t, "refused")
}

// Addresses that are asked for are given, or the pod is not made.
func TestPluggedAddress(t *testing.T) {
	ctx := context.Background()
	b := newPlugBed(t, nil)
	spec := plugSpec
	spec.Network.IP, spec.Network.MAC = netip.MustParseAddr("10.1.0.50"), "02:00:00:00:00:50"
	s := create(t, b.rt, spec)
	if i := info(t, s); i.IP != "10.1.0.50" || i.MAC != spec.Network.MAC {
		t.Errorf("%+v", i)
	}
	if err := s.Remove(ctx); err != nil {
		t.Fatal(err)
	}
	b.one.Taken = []string{"10.1.0.50"}
	b.configure(t, nil)
	if _, err := b.rt.Create(ctx, spec); err == nil || !strings.Contains(err.Error(), "10.1.0.50 is taken") {
		t.Errorf("taken: %v", err)
	}
	b.empty(t, "refused")
}

// Plugins of the second network go wrong in each way at each verb: the first is undone, the
// second as well, and if that cannot be the pod stays to be removed later.
func TestPluggedWrong(t *testing.T) {
	ctx := context.Background()
	for _, what := range []string{"fail", "hang", "die"} {
		t.Run(what, func(t *testing.T) {
			b := newPlugBed(t, nil)
			if what == "hang" {
				b.rt.cni.Time = time.Second // also for those that do not
			}
			spec := plugSpec
			b.configure(t, map[string]string{"ADD": what})
			if _, err := b.rt.Create(ctx, spec); err == nil || !strings.Contains(err.Error(), "add eth1 to network two") {
				t.Errorf("ADD: %v", err)
			}
			os.Remove(filepath.Join(b.two.Dir, "log", "pid"))
			if got := b.calls(t); got != "one: ADD DEL, two: ADD DEL" {
				t.Errorf("ADD: calls %s", got)
			}
			b.empty(t, "ADD goes wrong")

			// And then DEL as well.
			b.configure(t, map[string]string{"ADD": what, "DEL": what})
			_, err := b.rt.Create(ctx, spec)
			if err == nil {
				t.Fatal("created")
			}
			s, err := b.rt.Open("c")
			if err != nil {
				t.Fatal(err)
			}
			if i := info(t, s); i.State != Broken || !strings.Contains(i.Error, "delete eth1 from network two") {
				t.Errorf("DEL: %+v", i)
			}
			// rm says so, again and again, until it can be done; the configuration that it was
			// made by is what counts.
			for range map[bool]int{true: 1, false: 2}[what == "hang"] { // which takes its time
				if err := s.Remove(ctx); err == nil || !strings.Contains(err.Error(), "step detach") || !strings.Contains(err.Error(), "DEL") {
					t.Errorf("DEL again: %v", err)
				}
			}
			if i := info(t, s); i.State != Removing || !strings.Contains(i.Error, "delete eth1 from network two") {
				t.Errorf("DEL again: %+v", i)
			}
			if left := testenv.Attached(t, b.one.Dir); len(left) > 0 {
				t.Errorf("the other network has %v", left)
			}
			rec, err := s.record()
			if err != nil {
				t.Fatal(err)
			}
			all, err := b.rt.attachments(rec)
			if err != nil || len(all.Attachments) != 1 {
				t.Fatal(err, all)
			}
			all.Attachments[0].Config = []byte(strings.Replace(string(all.Attachments[0].Config), `"DEL":"`+what+`"`, `"DEL":""`, 1))
			if err := all.write(rec); err != nil {
				t.Fatal(err)
			}
			os.Remove(filepath.Join(b.two.Dir, "log", "pid"))
			b.calls(t)
			if err := s.Remove(ctx); err != nil {
				t.Error(err)
			}
			if got := b.calls(t); got != "one:, two: DEL" {
				t.Errorf("at last: calls %s", got)
			}
			b.empty(t, "removed")
		})
	}
}

// Who adds is killed while a plugin hangs that has started another: nothing goes on.
func TestPluggedKilled(t *testing.T) {
	b := newPlugBed(t, nil)
	b.configure(t, map[string]string{"ADD": "hang"})
	cmd := child(b.rt.root, "create", "c", 0)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(b.two.Dir, "log", "pid")
	var text []byte
	for i := 0; len(text) == 0 && i < 1000; i++ {
		time.Sleep(10 * time.Millisecond)
		text, _ = os.ReadFile(path)
	}
	cmd.Process.Kill()
	cmd.Wait()
	eventually(t, "all is cleared away", func() bool {
		if _, err := b.rt.Sweep(bg); err != nil {
			t.Error(err)
		}
		ids, err := b.rt.podIDs()
		return len(ids) == 0 && err == nil
	})
	for _, word := range strings.Fields(string(text)) {
		pid, err := strconv.Atoi(word)
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "no process "+word, func() bool { return unix.Kill(pid, 0) == unix.ESRCH })
	}
	if err := os.Remove(path); err != nil {
		t.Error(err)
	}
	if got := b.calls(t); got != "one: ADD DEL, two: ADD DEL" {
		t.Errorf("calls %s", got)
	}
	b.empty(t, "swept")
}

// A stop that is killed when its plugins have disconnected the pod leaves one that is said to
// want healing, and start connects it again: its pause alive or not, with a program in it or none.
func TestPluggedStopKilled(t *testing.T) {
	for _, pauseLives := range []bool{true, false} {
		b := newPlugBed(t, nil)
		s := create(t, b.rt, plugSpec)
		cmd := child(b.rt.root, "stop", "c", 0)
		cmd.Env[len(cmd.Env)-1] += " cgroup"
		if out, err := cmd.CombinedOutput(); exitSignal(err) != unix.SIGKILL {
			t.Fatalf("%v: %s", err, out)
		}
		joinPod(t, s, "sleep", "1000")
		if !pauseLives {
			killPause(t, s)
		}
		if i := info(t, s); i.State != Degraded {
			t.Errorf("pause alive %v: state %s: %s", pauseLives, i.State, i.Error)
		}
		if err := s.Start(bg); err != nil {
			t.Fatal(err)
		}
		if i := info(t, s); i.State != Running || i.IP != "10.1.0.2" || len(testenv.Attached(t, b.two.Dir)) != 1 {
			t.Errorf("pause alive %v: started: %+v", pauseLives, i)
		}
		if got := b.calls(t); got != "one: ADD DEL ADD, two: ADD DEL ADD" {
			t.Errorf("calls %s", got)
		}
		if err := s.Remove(bg); err != nil {
			t.Error(err)
		}
		b.empty(t, "removed")
	}
}

// CHECK that fails is no obstacle to healing.
func TestPluggedCheckFails(t *testing.T) {
	b := newPlugBed(t, nil)
	b.configure(t, map[string]string{"CHECK": "fail"})
	s := create(t, b.rt, plugSpec)
	joinPod(t, s, "sleep", "1000")
	killPause(t, s)
	if err := s.Start(context.Background()); err != nil {
		t.Error(err)
	}
	if got := b.calls(t); got != "one: ADD CHECK, two: ADD CHECK" {
		t.Errorf("calls %s", got)
	}
	if err := s.Remove(context.Background()); err != nil {
		t.Error(err)
	}
	b.empty(t, "removed")
}

// Configuration, plugins and records are gone: what can be undone is.
func TestPluggedGone(t *testing.T) {
	ctx := context.Background()
	for what, lose := range map[string]func(t *testing.T, b *plugBed, s *Sandbox){
		"configuration": func(t *testing.T, b *plugBed, s *Sandbox) { os.RemoveAll(b.rt.cni.ConfDir) },
		"cache":         func(t *testing.T, b *plugBed, s *Sandbox) { os.RemoveAll(b.rt.cni.CacheDir) },
		"record": func(t *testing.T, b *plugBed, s *Sandbox) {
			if err := os.WriteFile(filepath.Join(b.rt.podDir(s.ID()), recordFile), []byte("{"), 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"boot": func(t *testing.T, b *plugBed, s *Sandbox) { // another begins with an empty tmpfs
			killPause(t, s)
			for _, dir := range []string{"pods", "names", "ports"} {
				os.RemoveAll(filepath.Join(b.rt.root, dir))
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			b := newPlugBed(t, nil)
			s := create(t, b.rt, plugSpec)
			lose(t, b, s)
			if what == "boot" {
				done, err := b.rt.Sweep(ctx)
				if err != nil || !slices.ContainsFunc(done, func(s string) bool { return strings.Contains(s, "pod") }) {
					t.Errorf("sweep: %v, %v", done, err)
				}
			} else if err := s.Remove(ctx); err != nil {
				t.Error(err)
			}
			if got := b.calls(t); !strings.HasPrefix(got, "one: ADD DEL, two: ADD DEL") {
				t.Errorf("calls %s", got)
			}
			b.empty(t, "removed")
		})
	}
	t.Run("plugin", func(t *testing.T) {
		b := newPlugBed(t, nil)
		s := create(t, b.rt, plugSpec)
		bin := b.rt.cni.PluginDirs[0]
		if err := os.Rename(bin, bin+".away"); err != nil {
			t.Fatal(err)
		}
		if err := s.Stop(ctx, StopOptions{}); !errors.Is(err, cni.ErrNoPlugin) {
			t.Errorf("stop: %v", err)
		}
		// A removal that failed has begun: from here on the pod can only be removed.
		if err := s.RemoveIdle(ctx); !errors.Is(err, cni.ErrNoPlugin) {
			t.Errorf("rm: %v", err)
		}
		if err := s.Remove(ctx); err != nil {
			t.Errorf("rm -f: %v", err)
		}
		b.rt.background.Wait()
		b.before.Same(t, b.rt.root, "removed")
	})
}

// Garbage is what belongs to no pod; what is of others in the cache is none.
func TestPluggedCollect(t *testing.T) {
	b := newPlugBed(t, nil)
	s := create(t, b.rt, plugSpec)
	lease := func(name string) string { return filepath.Join(b.two.Dir, name+"-eth0") }
	for _, name := range []string{"stale", "others"} {
		if err := os.WriteFile(lease(name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	err := os.WriteFile(filepath.Join(b.rt.cni.CacheDir, "results", "two-others-eth0"),
		[]byte(`{"kind":"cniCacheV1","containerId":"others","ifName":"eth0","networkName":"two"}`), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.rt.Sweep(context.Background()); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(testenv.Attached(t, b.two.Dir), " "); !strings.Contains(got, s.ID()+"-eth1") || !strings.Contains(got, "others") || strings.Contains(got, "stale") {
		t.Errorf("left %s", got)
	}
	if got := b.calls(t); got != "one: ADD, two: ADD GC" {
		t.Errorf("calls %s", got)
	}
}

// plugTrials are the operations, each in a known situation, with the steps before which it
// fails or is killed: those around what plugins do. The others are those of every pod.
var plugTrials = []struct {
	trial
	kill, fail []string
}{
	{trial{"create", "create", func(*testing.T, *Runtime) {}}, []string{"attach", "commit"}, []string{"networks", "attach", "commit"}},
	{trial{"start stopped", "start", func(t *testing.T, rt *Runtime) {
		if err := create(t, rt, plugSpec).Stop(context.Background(), StopOptions{Grace: -1}); err != nil {
			t.Fatal(err)
		}
	}}, []string{"commit"}, []string{"commit"}},
	{trial{"start with dead pause", "start", func(t *testing.T, rt *Runtime) {
		killPause(t, create(t, rt, plugSpec))
	}}, []string{"attach", "commit"}, nil},
	{trial{"heal", "start", func(t *testing.T, rt *Runtime) {
		s := create(t, rt, plugSpec)
		joinPod(t, s, "sleep", "1000")
		killPause(t, s)
	}}, []string{"check", "commit"}, []string{"check"}},
	{trial{"stop", "stop", func(t *testing.T, rt *Runtime) { create(t, rt, plugSpec) }}, []string{"cgroup", "commit"}, []string{"detach"}},
	{trial{"remove", "remove", func(t *testing.T, rt *Runtime) { create(t, rt, plugSpec) }}, []string{"detach", "cgroup", "record"}, []string{"detach"}},
}

// Doing it again after that, and removing the pod, leave nothing.
func TestPluggedEachStep(t *testing.T) {
	for _, tt := range plugTrials {
		t.Run(tt.name, func(t *testing.T) {
			for _, step := range tt.kill {
				t.Run("killed before "+step, func(t *testing.T) { plugStep(t, tt.trial, step, true) })
			}
			for _, step := range tt.fail {
				t.Run(step+" fails", func(t *testing.T) { plugStep(t, tt.trial, step, false) })
			}
		})
	}
}

func plugStep(t *testing.T, tt trial, step string, kill bool) {
	ctx := context.Background()
	errInjected := errors.New("injected")
	at := ""
	b := newPlugBed(t, func(s string) error {
		if s == at {
			return errInjected
		}
		return nil
	})
	tt.prepare(t, b.rt)
	if kill {
		cmd := child(b.rt.root, tt.verb, "c", 0)
		cmd.Env[len(cmd.Env)-1] += " " + step
		if out, err := cmd.CombinedOutput(); exitSignal(err) != unix.SIGKILL {
			t.Fatalf("%v: %s", err, out)
		}
	} else {
		at = step
		if err := verbs[tt.verb](ctx, b.rt, "c"); !errors.Is(err, errInjected) {
			t.Errorf("error %v", err)
		}
		at = ""
	}
	if tt.verb == "create" {
		for range 5 {
			if _, err := b.rt.Sweep(ctx); err != nil {
				t.Errorf("sweep: %v", err)
			}
			if !kill {
				break
			}
			time.Sleep(20 * time.Millisecond) // a pause that was being born may hold the lock
		}
		b.empty(t, "swept")
	}
	if err := verbs[tt.verb](ctx, b.rt, "c"); err != nil {
		t.Errorf("again: %v", err)
	}
	if s, err := b.rt.Open("c"); err == nil {
		if i := info(t, s); tt.verb == "start" && (i.State != Running || i.IP != "10.1.0.2" || len(testenv.Attached(t, b.two.Dir)) != 1) {
			t.Errorf("again: %+v", i)
		}
		if err := s.Remove(ctx); err != nil {
			t.Errorf("remove: %v", err)
		}
	}
	if _, err := b.rt.Sweep(ctx); err != nil {
		t.Errorf("sweep: %v", err)
	}
	b.empty(t, "removed")
}

func FuzzAttachments(f *testing.F) {
	id := strings.Repeat("0", 64)
	f.Add([]byte(`{"driver":{"confDir":"/c"},"attachments":[{"container":"` + id + `","network":"n","interface":"eth0","config":{"name":"n"},"result":{"network":"n","interface":"eth0","ips":[{"address":"10.0.0.1/8"}]}}]}`))
	f.Add([]byte(`{"attachments":[null]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		all := new(attachments)
		if all.parse(b, id) != nil {
			return
		}
		for _, a := range all.Attachments {
			if a.Container != id || strings.ContainsAny(a.Network+a.Interface, "/\n") {
				t.Errorf("taken: %+v", a)
			}
		}
	})
}
