package sandbox

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/podbox/podbox/internal/testenv"
	"github.com/podbox/podbox/netns"
	"github.com/podbox/podbox/netns/cni"
)

// debianPlugins are where Debian has those of the package containernetworking-plugins.
const debianPlugins = "/usr/lib/cni"

// debianNetworks are one of a bridge with all that is usually chained to it, one of pairs, one
// beside a link of the host with addresses that the pod is told, and loopback.
var debianNetworks = map[string]string{
	"lan": `{"cniVersion":"1.0.0","name":"lan","plugins":[
	  {"type":"bridge","bridge":"cnitest0","isGateway":true,"ipMasq":true,"hairpinMode":true,"mtu":1400,
	   "ipam":{"type":"host-local","dataDir":"DIR/leases","subnet":"10.244.7.0/24","routes":[{"dst":"0.0.0.0/0"}]}},
	  {"type":"portmap","capabilities":{"portMappings":true},"snat":true},
	  {"type":"firewall"},
	  {"type":"tuning","sysctl":{"net.core.somaxconn":"500"}},
	  {"type":"bandwidth","capabilities":{"bandwidth":true}}]}`,
	"pairs": `{"cniVersion":"0.4.0","name":"pairs","plugins":[
	  {"type":"ptp","ipam":{"type":"host-local","dataDir":"DIR/leases","ranges":[[{"subnet":"10.244.8.0/24"}],[{"subnet":"fd00:244:8::/64"}]]}}]}`,
	"beside": `{"cniVersion":"0.3.1","name":"beside","type":"macvlan","master":"cniup0","mode":"bridge",
	  "ipam":{"type":"static","addresses":[{"address":"10.244.9.9/24","gateway":"10.244.9.1"}]}}`,
	"lo": `{"cniVersion":"1.0.0","name":"lo","plugins":[{"type":"loopback"}]}`,
}

// The plugins that people have do what they are asked for, through all of a pod's life.
func TestPluggedByDebian(t *testing.T) {
	testenv.NeedRoot(t)
	for _, path := range []string{debianPlugins + "/bridge", "/usr/sbin/iptables"} {
		if _, err := os.Stat(path); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatalf("%v: CI installs containernetworking-plugins and iptables", err)
			}
			t.Skip("containernetworking-plugins and iptables are not installed")
		}
	}
	dir := t.TempDir()
	for _, sub := range []string{"run", "conf", "state"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range debianNetworks {
		file := name + ".conflist"
		if !strings.Contains(text, `"plugins"`) {
			file = name + ".conf"
		}
		if err := os.WriteFile(filepath.Join(dir, "conf", file), []byte(strings.ReplaceAll(text, "DIR", dir)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var told strings.Builder
	rt, err := Open(Options{
		Root: filepath.Join(dir, "run"), StateDir: filepath.Join(dir, "state"), Logger: slog.New(slog.NewTextHandler(&told, nil)),
		CNI: cni.Driver{ConfDir: filepath.Join(dir, "conf"), CacheDir: filepath.Join(dir, "cache")},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer rt.Close()
	noRouter(t) // which plugins change
	ip(t, "link", "add", "cniup0", "type", "veth", "peer", "name", "cniup1")
	ip(t, "addr", "add", "10.244.9.1/24", "dev", "cniup1")
	ip(t, "link", "set", "cniup0", "up")
	ip(t, "link", "set", "cniup1", "up")
	defer func() {
		ip(t, "link", "del", "cniup0")
		ip(t, "link", "del", "cnitest0")
		output(t, "nft", "flush", "ruleset")
	}()

	spec := Spec{
		Name: "c", Network: netns.CNI("lan", "pairs", "beside", "lo"),
		Ports: []netns.Port{{HostPort: 24200, Port: 7, Protocol: netns.UDP}}, Bandwidth: netns.Bandwidth{Ingress: 100e6, Egress: 50e6},
	}
	s := create(t, rt, spec)
	i := info(t, s)
	if i.IP != "10.244.7.2" || i.IP6 != "" || len(i.Networks) != 4 || len(i.Networks[1].IPs) != 2 || len(i.Networks[3].IPs) != 0 {
		t.Fatalf("%+v", i)
	}
	for n, want := range []string{"10.244.7.2/24", "10.244.8.2/24", "10.244.9.9/24"} {
		if got := i.Networks[n].IPs[0].Address.String(); got != want || i.Networks[n].MAC == "" {
			t.Errorf("network %d: %+v, want %s", n, i.Networks[n], want)
		}
	}
	inPod(t, s, func() error {
		for name, mtu := range map[string]int{"eth0": 1400, "eth1": 1500, "eth2": 1500} {
			link, err := net.InterfaceByName(name)
			if err != nil || link.MTU != mtu || link.Flags&net.FlagUp == 0 {
				t.Errorf("%s: %+v, %v; want MTU %d", name, link, err, mtu)
			}
		}
		b, err := os.ReadFile("/proc/sys/net/core/somaxconn") // of the thread's namespace
		if got := strings.TrimSpace(string(b)); err != nil || got != "500" {
			t.Errorf("somaxconn %s, %v", got, err)
		}
		return nil
	})
	if got := output(t, "tc", "qdisc"); strings.Count(got, "qdisc tbf ") != 2 || !strings.Contains(got, "rate 100Mbit") || !strings.Contains(got, "rate 50Mbit") {
		t.Errorf("no limits: %s", got)
	}
	if got := output(t, "iptables", "-S", "CNI-FORWARD"); !strings.Contains(got, "10.244.7.2/32") {
		t.Errorf("the firewall does not know the pod: %s", got)
	}
	serve := func(when string) {
		t.Helper()
		// Closed again: it would hold the namespace.
		var server net.PacketConn
		inPod(t, s, func() (err error) {
			server, err = net.ListenPacket("udp", ":7")
			return err
		})
		defer server.Close()
		go func() {
			b := make([]byte, 10)
			for {
				_, from, err := server.ReadFrom(b)
				if err != nil {
					return
				}
				_, _ = server.WriteTo([]byte("it is"), from)
			}
		}()
		for _, to := range []string{"10.244.7.2:7", "10.244.8.2:7", "[fd00:244:8::2]:7", "127.0.0.1:24200"} {
			eventually(t, when+": an answer from "+to, func() bool { // the kernel may still look for duplicate addresses
				c, err := net.Dial("udp", to)
				if err != nil {
					return false
				}
				defer c.Close()
				return who(t, c) == "it is"
			})
		}
	}
	serve("created")

	// Another pod in the same networks has other addresses, and loses none when this one goes.
	other := create(t, rt, Spec{Name: "d", Network: netns.CNI("lan")})
	if i := info(t, other); i.IP != "10.244.7.3" {
		t.Errorf("the other: %+v", i)
	}
	joinPod(t, s, "sleep", "1000")
	killPause(t, s)
	if err := s.Start(bg); err != nil {
		t.Fatal(err)
	}
	warned := func() string {
		// portmap 1.1.1 looks for its rules of IPv6 also where there are none.
		return strings.Join(slices.DeleteFunc(strings.Split(told.String(), "\n"), func(line string) bool {
			return line == "" || strings.Contains(line, "portmap: CHECK: could not check ipv6 dnat")
		}), "\n")
	}
	if got := warned(); got != "" {
		t.Errorf("after healing, CHECK says: %s", got)
	}
	serve("healed")
	if err := s.Stop(bg, StopOptions{Grace: -1}); err != nil {
		t.Fatal(err)
	}
	if err := s.Start(bg); err != nil {
		t.Fatal(err)
	}
	if now := info(t, s); now.IP != i.IP || now.MAC != i.MAC || now.Networks[1].IPs[1].Address.String() != "fd00:244:8::2/64" {
		t.Errorf("started: %+v, was %+v", now, i)
	}
	if got := warned(); got != "" {
		t.Errorf("start says: %s", got)
	}
	killPause(t, s)
	if err := s.Start(bg); err != nil {
		t.Fatal(err)
	}
	if i := info(t, s); i.IP != "10.244.7.2" {
		t.Errorf("started with dead pause: %+v", i)
	}
	// An address that is asked for; one that is another's is refused.
	fixed := spec
	fixed.Name, fixed.Ports, fixed.Network.IP, fixed.Network.MAC = "f", nil, netip.MustParseAddr("10.244.7.200"), "02:00:00:00:07:c8"
	fixed.Network.Names = []string{"lan"}
	f := create(t, rt, fixed)
	if i := info(t, f); i.IP != "10.244.7.200" || i.MAC != fixed.Network.MAC {
		t.Errorf("fixed: %+v", i)
	}
	fixed.Name = "g"
	if _, err := rt.Create(bg, fixed); err == nil || !strings.Contains(err.Error(), "10.244.7.200") {
		t.Errorf("the same again: %v", err)
	}
	for _, s := range []*Sandbox{s, other, f} {
		if err := s.Remove(bg); err != nil {
			t.Error(err)
		}
	}
	if left, err := filepath.Glob(dir + "/leases/*/[1f]*"); err != nil || len(left) > 0 {
		t.Errorf("leases %v, %v", left, err)
	}
	if got := output(t, "ip", "-o", "link"); strings.Contains(got, "veth") {
		t.Errorf("links are left: %s", got)
	}
	if got := output(t, "iptables-save"); strings.Contains(got, "10.244.") {
		t.Errorf("rules are left: %s", got)
	}
}

func output(t testing.TB, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatal(fmt.Errorf("%v: %w: %s", args, err, out))
	}
	return string(out)
}
