package nettest

import (
	"net"
	"strconv"
	"strings"
	"testing"
)

// What leaves the host has its address; who stays on it keeps theirs.
func TestOut(t *testing.T) {
	l := newLab(t)
	server := l.machine("server")
	a, b := l.pod("a"), l.pod("b")
	for _, network := range []string{"tcp", "udp"} {
		for _, n := range []*node{l.host, l.router, server, b.node} {
			l.serve(n, network, n.at("99"))
			l.serve(n, network, n.at6("99"))
		}
		l.serve(l.host, network, "169.254.1.1:98")
		for _, w := range []struct{ to, want string }{
			{server.at("99"), "server sees " + hostIP},
			{server.at6("99"), "server sees " + hostIP6},
			{l.router.at("99"), "router sees " + hostIP},
			{l.router.at6("99"), "router sees " + hostIP6},
			{l.host.at("99"), "host sees " + a.ip.String()},
			{l.host.at6("99"), "host sees " + a.ip6.String()},
			{"169.254.1.1:98", "host sees " + a.ip.String()},
			{b.at("99"), "b sees " + a.ip.String()},
			{b.at6("99"), "b sees " + a.ip6.String()},
			{server.at("97"), refused},
		} {
			l.reaches(a.node, network, w.to, w.want)
		}
	}
	// Nobody knows a way to a pod's address but those on the host.
	l.reaches(server, "tcp", b.at("99"), unreachable)
}

// A source port stays the same where it can, and two pods that have the same one reach
// the same server, at the same time.
func TestSourcePorts(t *testing.T) {
	l := newLab(t)
	server := l.machine("server")
	pods := []*pod{l.pod("a"), l.pod("b"), l.pod("c")}
	const port = 22500
	for _, network := range []string{"tcp", "udp"} {
		l.serve(server, network, ":99")
		for _, at := range []string{server.at("99"), server.at6("99")} {
			seen := make(map[int]string)
			for i, p := range pods {
				from := p.at("22500")
				if at[0] == '[' {
					from = p.at6("22500")
				}
				c, err := dialFrom(p.node, network, at, from, patience)
				l.must(err)
				defer c.Close() // all of them stay until the end
				answer, err := question(c, patience)
				if err != nil {
					t.Errorf("%s to %s %s: %v", p.name, network, at, err)
					continue
				}
				got := portSeen(t, answer)
				if i == 0 && got != port {
					t.Errorf("%s %s: port %d is seen as %d, and nobody else had it", network, at, port, got)
				}
				if who, taken := seen[got]; taken {
					t.Errorf("%s %s: port %d is that of %s and %s", network, at, got, who, p.name)
				}
				seen[got] = p.name
			}
		}
	}
}

func portSeen(t *testing.T, answer string) int {
	t.Helper()
	_, seen, _ := strings.Cut(answer, " sees ")
	_, port, err := net.SplitHostPort(seen)
	if err != nil {
		t.Fatalf("%q: %v", answer, err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
