package netns

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

// policeLab makes the rules with the policies of pods A and B, of which A publishes port
// 8080 for 80, and B has a label.
func (l *lab) police(a, b Policy) error {
	up, err := FindUplinks(Uplinks{})
	if err != nil {
		return err
	}
	pub := Publication{addrA, []Port{mustParsePort("8080:80"), mustParsePort("8081:81"), mustParsePort("8080:80/udp")}}
	if err := ReachLoopback(linkPrefix+"0", true); err != nil {
		return err
	}
	if err := l.rules.Replace([]Publication{pub}, up, policedA(a), policedB(b)); err != nil {
		return err
	}
	// A port of UDP that is used again would go on with the connection that it had.
	if err := netlink.ConntrackTableFlush(netlink.ConntrackTable); err != nil {
		return err
	}
	return up.Forward()
}

func policedA(p Policy) Policed {
	d := Policed{Address: addrA, Policy: p, Groups: Groups("a", map[string]string{"team": "red"})}
	if p.Isolate != "" {
		d.Isolated = LabelGroup(p.Isolate, "red")
	}
	return d
}

func policedB(p Policy) Policed {
	d := Policed{Address: addrB, Policy: p, Groups: Groups("b", map[string]string{"team": "blue", "app": "web"})}
	if p.Isolate != "" {
		d.Isolated = LabelGroup(p.Isolate, "blue")
	}
	return d
}

func mustParsePeers(s string) []Peer {
	if s == "" {
		return nil
	}
	peers, err := ParsePeers(strings.Fields(s))
	if err != nil {
		panic(err)
	}
	return peers
}

// Who may connect to whom, by each way there is, is what the policies of both say; and
// Admits says the same as the kernel.
func TestPolicy(t *testing.T) {
	inLab(t, func(l *lab) error {
		for _, s := range []struct {
			ns   *NS
			addr string
		}{{l.pods[0], ":80"}, {l.pods[0], ":81"}, {l.pods[1], ":80"}, {l.pods[1], ":81"}, {nil, ":70"}, {l.outside, ":80"}, {l.outside, ":81"}} {
			for _, network := range []string{"tcp", "udp4", "udp6"} {
				c, err := serve(s.ns, "there", network, s.addr)
				if err != nil {
					return err
				}
				defer c.Close()
			}
		}
		if err := l.police(Policy{}, Policy{}); err != nil {
			return err
		}
		if err := awaitNeighbour(l.outside, machine6); err != nil {
			return err
		}
		a4, a6, b4, b6 := addrA.IP.String(), "["+addrA.IP6.String()+"]", addrB.IP.String(), "["+addrB.IP6.String()+"]"
		gw, host6, out6 := Gateway.String(), "["+hostOutside6+"]", "["+machine6+"]"
		ways := []struct {
			name string
			from *NS
			to   []string
		}{
			{"b-a:80", l.pods[1], []string{"tcp " + a4 + ":80", "tcp " + a6 + ":80"}},
			{"b-a:81", l.pods[1], []string{"tcp " + a4 + ":81", "tcp " + a6 + ":81"}},
			{"b-a:80/udp", l.pods[1], []string{"udp " + a4 + ":80", "udp " + a6 + ":80"}},
			{"b-a:pub80", l.pods[1], []string{"tcp " + gw + ":8080", "tcp " + host6 + ":8080"}},
			{"b-a:pub81", l.pods[1], []string{"tcp " + gw + ":8081"}},
			{"a-b:80", l.pods[0], []string{"tcp " + b4 + ":80", "tcp " + b6 + ":80", "udp " + b4 + ":80"}},
			{"a-b:81", l.pods[0], []string{"tcp " + b4 + ":81", "tcp " + b6 + ":81"}},
			{"a-a:pub80", l.pods[0], []string{"tcp " + gw + ":8080", "tcp " + host6 + ":8080"}},
			{"a-a:80", l.pods[0], []string{"tcp " + a4 + ":80"}},
			{"out-a:pub80", l.outside, []string{"tcp " + hostOutside + ":8080", "tcp " + host6 + ":8080", "udp " + hostOutside + ":8080"}},
			{"out-a:pub81", l.outside, []string{"tcp " + hostOutside + ":8081"}},
			{"host-a", nil, []string{"tcp " + a4 + ":81", "tcp " + a6 + ":80", "tcp 127.0.0.1:8080", "tcp " + hostOutside + ":8080"}},
			{"a-host:70", l.pods[0], []string{"tcp " + gw + ":70", "tcp " + host6 + ":70", "udp " + gw + ":70", "tcp " + hostOutside + ":70"}},
			{"a-out:80", l.pods[0], []string{"tcp " + machine + ":80", "tcp " + out6 + ":80"}},
			{"a-out:81", l.pods[0], []string{"tcp " + machine + ":81", "tcp " + out6 + ":81"}},
			{"b-out:80", l.pods[1], []string{"tcp " + machine + ":80"}},
			{"b-host:70", l.pods[1], []string{"tcp " + gw + ":70"}},
		}
		for _, tt := range []struct {
			from, to, isolate, isolateB string // of A; of B
			refused                     string
		}{
			{"", "", "", "", ""},
			{"none", "", "", "", "b-a:80 b-a:81 b-a:80/udp b-a:pub80 b-a:pub81 out-a:pub80 out-a:pub81"},
			{"host", "", "", "", "b-a:80 b-a:81 b-a:80/udp b-a:pub80 b-a:pub81 out-a:pub80 out-a:pub81"},
			{"any:80 any:80/udp", "", "", "", "b-a:81 b-a:pub81 out-a:pub81"},
			{"any:80", "", "", "", "b-a:81 b-a:80/udp b-a:pub81 out-a:pub81 !out-a:pub80"},
			{"pod:b", "", "", "", "out-a:pub80 out-a:pub81"},
			{"pod:nobody pod:b:79-80", "", "", "", "b-a:81 b-a:80/udp b-a:pub81 out-a:pub80 out-a:pub81"},
			{"label:app=web:81 label:app=web:80/udp", "", "", "", "b-a:80 b-a:pub80 out-a:pub80 out-a:pub81"},
			{"label:app=db 192.0.2.0/24 2001:db8::/32", "", "", "", "b-a:80 b-a:81 b-a:80/udp b-a:pub80 b-a:pub81"},
			{"10.88.0.0/16 10.88.0.3:80 [fd70:6f64:626f:7800::3]:80 10.88.0.0/24:81", "", "", "", "!b-a:81 !b-a:80/udp out-a:pub80 out-a:pub81"},
			{"", "none", "", "", "a-b:80 a-b:81 a-host:70 a-out:80 a-out:81"},
			{"", "host", "", "", "a-b:80 a-b:81 a-out:80 a-out:81"},
			{"", "host:70 host:70/udp pod:b:81", "", "", "a-b:80 a-out:80 a-out:81"},
			{"", "label:team=blue", "", "", "a-host:70 a-out:80 a-out:81"},
			{"", "any:80 any:80/udp", "", "", "a-b:81 a-host:70 a-out:81"},
			{"", "192.0.2.2:81 [2001:db8::2/128]:81 169.254.1.1", "", "", "a-b:80 a-b:81 a-out:80 !a-host:70"},
			{"none", "none", "", "", "b-a:80 b-a:81 b-a:80/udp b-a:pub80 b-a:pub81 out-a:pub80 out-a:pub81 a-b:80 a-b:81 a-host:70 a-out:80 a-out:81"},
			{"", "", "team", "", "b-a:80 b-a:81 b-a:80/udp b-a:pub80 b-a:pub81 a-b:80 a-b:81"},
			{"", "", "", "team", "b-a:80 b-a:81 b-a:80/udp b-a:pub80 b-a:pub81 a-b:80 a-b:81"},
			{"pod:b", "", "team", "team", "b-a:80 b-a:81 b-a:80/udp b-a:pub80 b-a:pub81 a-b:80 a-b:81 out-a:pub80 out-a:pub81"},
		} {
			policy := Policy{From: mustParsePeers(tt.from), To: mustParsePeers(tt.to), Isolate: tt.isolate}
			if err := l.police(policy, Policy{Isolate: tt.isolateB}); err != nil {
				return fmt.Errorf("%+v: %w", tt, err)
			}
			refused := strings.Fields(tt.refused)
			type attempt struct {
				way, to string
				ok      bool
				err     error
			}
			results := make(chan attempt)
			n := 0
			for _, w := range ways {
				if slices.Contains(refused, "!"+w.name) {
					continue // some of it is
				}
				for _, to := range w.to {
					n++
					network, addr, _ := strings.Cut(to, " ")
					a, b := policedA(policy), policedB(Policy{Isolate: tt.isolateB})
					if got, want := admits(w.name, network, strings.Contains(addr, "["), &a, &b), !slices.Contains(refused, w.name); got != want {
						t.Errorf("from %q to %q isolated %q %q: Admits says %v of %s by %s", tt.from, tt.to, tt.isolate, tt.isolateB, got, w.name, to)
					}
					try := func() {
						_, _, err := askFor(150*time.Millisecond, w.from, network, addr)
						if err != nil && !slices.Contains(refused, w.name) {
							_, _, err = ask(w.from, network, addr) // the machine is busy
						}
						results <- attempt{w.name, to, err == nil, err}
					}
					if w.from == nil {
						go func() { results <- attempt{w.name, to, true, nil} }()
						if _, _, err := ask(nil, network, addr); err != nil {
							t.Errorf("%+v: the host to %s: %v", tt, to, err)
						}
						continue
					}
					go try()
				}
			}
			for range n {
				if r := <-results; r.ok == slices.Contains(refused, r.way) {
					t.Errorf("from %q to %q isolated %q %q: %s by %s: %v", tt.from, tt.to, tt.isolate, tt.isolateB, r.way, r.to, r.err)
				}
			}
		}
		return nil
	})
}

// admits asks Admits of a way such as b-a:80, when published ports are translated.
func admits(way, network string, v6 bool, a, b *Policed) bool {
	ends := map[string]End{
		"a": {Addr: addrA.IP, Pod: a}, "b": {Addr: addrB.IP, Pod: b},
		"out": {Addr: netip.MustParseAddr(machine)}, "host": {Addr: Gateway, Host: true},
	}
	if v6 {
		ends = map[string]End{
			"a": {Addr: addrA.IP6, Pod: a}, "b": {Addr: addrB.IP6, Pod: b},
			"out": {Addr: netip.MustParseAddr(machine6)}, "host": {Addr: netip.MustParseAddr(hostOutside6), Host: true},
		}
	}
	from, rest, _ := strings.Cut(way, "-")
	to, port, _ := strings.Cut(rest, ":")
	number, _ := strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(port, "pub"), "/udp"))
	return Admits(ends[from], ends[to], Protocol(network[:3]).number(), uint16(number))
}

// Police changes what replaces would make, whatever it was before; connections that
// there are go on.
func TestPoliceChanges(t *testing.T) {
	inLab(t, func(l *lab) error {
		c, err := serve(l.pods[0], "A", "tcp", ":80")
		if err != nil {
			return err
		}
		defer c.Close()
		if err := l.police(Policy{}, Policy{}); err != nil {
			return err
		}
		reached := func() bool {
			_, _, err := askFor(200*time.Millisecond, l.pods[1], "tcp", addrA.IP.String()+":80")
			return err == nil
		}
		was := policedA(Policy{})
		for _, tt := range []struct {
			from string
			want bool
		}{
			{"none", false},
			{"10.88.0.0/24:80", true},
			{"10.88.0.0/24:80 10.88.0.0/16", true},
			{"10.88.0.0/24:81 10.88.0.3:82", false},
			{"pod:b:80 pod:c:90", true},
			{"pod:c:80 pod:b:90", false},
			{"pod:c pod:d pod:e pod:f pod:g pod:h pod:i pod:b", true},
			{"", true},
		} {
			now := policedA(Policy{From: mustParsePeers(tt.from)})
			if err := l.rules.Police(was, now); err != nil {
				return fmt.Errorf("to %q: %w", tt.from, err)
			}
			if err := l.rules.Police(now, now); err != nil {
				return err
			}
			was = now
			if got := reached(); got != tt.want {
				t.Errorf("from %q: reached %v", tt.from, got)
			}
		}
		// What is not there is told.
		if err := l.rules.Police(policedA(Policy{From: []Peer{}}), Policed{}); !errors.Is(err, ErrAbsent) {
			t.Errorf("what is not there is taken away: %v", err)
		}
		if err := l.rules.Remove(); err != nil {
			return err
		}
		if err := l.rules.Police(Policed{}, policedA(Policy{From: []Peer{}})); !errors.Is(err, ErrAbsent) {
			t.Errorf("without rules: %v", err)
		}
		return nil
	})
}

// What stands for a group in the sets depends on a key: without it nobody can find a name
// that is taken for another.
func TestPolicyKey(t *testing.T) {
	pod := Policed{Address: Address{IP: netip.MustParseAddr("10.88.0.2")}, Groups: []Group{"pod:web"}}
	keys := make(map[string]bool)
	for _, key := range []string{"", "a", "b", "a"} {
		b := newBatch(Rules{Table: DefaultTable}.table())
		b.key = []byte(key)
		b.police(pod)
		elems := b.elements["membersa4"]
		if len(elems) != 1 {
			t.Fatalf("%d elements", len(elems))
		}
		keys[string(elems[0].Key)] = true
	}
	if len(keys) != 3 {
		t.Errorf("%d different elements of 3 keys", len(keys))
	}
}
