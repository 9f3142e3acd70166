package nettest

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/sandbox"
)

// A pod that is stopped refuses, and one that is started again answers at the same
// port, by the same address.
func TestStopAndStart(t *testing.T) {
	l := newLab(t)
	client := l.machine("client")
	web := l.pod("web", "22080:80")
	l.member(web)
	was := web.ip
	for range 2 {
		l.reaches(client, "tcp", hostIP+":22080", "web sees "+client.ip.String())
		l.reaches(client, "tcp", "["+hostIP6+"]:22080", "web sees "+client.ip6.String())
		web.leave()
		l.must(web.Stop(l.Context(), sandbox.StopOptions{Grace: -1}))
		l.reaches(client, "tcp", hostIP+":22080", refused)
		l.reaches(client, "tcp", "["+hostIP6+"]:22080", refused)
		l.must(web.Start(l.Context()))
		l.enter(web)
		if web.ip != was {
			t.Fatalf("started with %s, was %s", web.ip, was)
		}
		l.reaches(client, "tcp", hostIP+":22080", refused) // nobody serves yet
		l.member(web)
	}
}

// The pause is killed, and healed, while a member serves: connections from outside do
// not notice, neither those that there are nor new ones, at any moment.
func TestHealUnderTraffic(t *testing.T) {
	l := newLab(t)
	client, server := l.machine("client"), l.machine("server")
	web := l.pod("web", "22080:80", "22080:80/udp")
	l.member(web)
	l.serve(server, "tcp", ":99")
	sees, sees6 := "web sees "+client.ip.String(), "web sees "+client.ip6.String()
	stays := []*conversation{l.converse(client, hostIP+":22080", sees), l.converse(client, "["+hostIP6+"]:22080", sees6)}
	udp := l.keepSending(client, hostIP+":22080")
	defer udp.end()
	goesOn := func(when string) {
		t.Helper()
		for i, c := range stays {
			if err := c.goesOn(patience); err != nil {
				t.Errorf("%s: connection %d: %v", when, i, err)
			}
		}
		l.reaches(client, "tcp", hostIP+":22080", sees)
		l.reaches(client, "tcp", "["+hostIP6+"]:22080", sees6)
		l.reaches(web.node, "tcp", server.at("99"), "server sees "+hostIP)
		udp.hears("web", when)
	}
	goesOn("at first")
	for range 3 {
		i, err := web.Info()
		l.must(err)
		l.must(unix.Kill(i.PausePID, unix.SIGKILL))
		goesOn("while the pause dies")
		l.awaitState(web, sandbox.Degraded)
		goesOn("without a pause")
		l.must(l.rt.ReloadNetwork(l.Context()))
		goesOn("reloaded without a pause")
		healed := make(chan error, 1)
		go func() { healed <- web.Start(background) }()
		for len(healed) == 0 {
			for i, c := range stays {
				if err := c.goesOn(patience); err != nil {
					t.Fatalf("while it is healed: connection %d: %v", i, err)
				}
			}
			l.reaches(client, "tcp", hostIP+":22080", sees)
		}
		l.must(<-healed)
		l.awaitState(web, sandbox.Running)
		goesOn("healed")
	}
}

// Somebody takes the pod's link away. start brings it back, with its addresses and
// ports, and the program in it goes on.
func TestLinkTakenAway(t *testing.T) {
	l := newLab(t)
	client := l.machine("client")
	web := l.pod("web", "22080:80", "22080:80/udp")
	l.member(web)
	sees, sees6 := "web sees "+client.ip.String(), "web sees "+client.ip6.String()
	udp := l.keepSending(client, hostIP+":22080")
	defer udp.end()
	for range 2 {
		l.reaches(client, "tcp", hostIP+":22080", sees)
		stays := l.converse(client, hostIP+":22080", sees)
		udp.hears("web", "with its link")
		l.must(dropLink(l.linkOf(web)))
		l.awaitState(web, sandbox.Degraded)
		udp.hears(nothing, "without a link")
		l.must(web.Start(l.Context()))
		l.awaitState(web, sandbox.Running)
		l.reaches(client, "tcp", hostIP+":22080", sees)
		l.reaches(client, "tcp", "["+hostIP6+"]:22080", sees6)
		udp.hears("web", "with a link again")
		if err := stays.goesOn(patience); err != nil {
			t.Errorf("a connection that was there before: %v", err)
		}
	}
}

// The host gets another address and loses the one that it had, as a laptop does that is
// carried to another network. Ports are reached by the new one, and pods go out by it,
// with nothing to be done.
func TestHostMoves(t *testing.T) {
	l := newLab(t)
	client := l.machine("client")
	web := l.pod("web", "22080:80", "22080:80/udp", hostIP+":22081:80")
	l.serve(web.node, "tcp", ":80")
	l.serve(web.node, "udp", web.at("80"))
	l.serve(client, "tcp", ":99")
	l.serve(client, "udp", client.at("99"))
	l.reaches(web.node, "tcp", client.at("99"), "client sees "+hostIP)
	udp := l.dial(web.node, "udp", client.at("99"))
	if answer, err := question(udp, patience); err != nil || withoutPort(answer) != "client sees "+hostIP {
		t.Errorf("UDP before: %q, %v", answer, err)
	}
	up, err := netlink.LinkByName(toward(l.router))
	l.must(err)
	for _, a := range []string{hostIP + "/24", hostIPOther + "/24"} {
		ip, err := netlink.ParseAddr(a)
		l.must(err)
		if err := netlink.AddrDel(up, ip); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			t.Fatal(err)
		}
	}
	const moved = "192.0.2.77"
	l.address(l.host, toward(l.router), moved+"/24")
	l.gateway(l.host, routerIP)
	l.reaches(client, "tcp", moved+":22080", "web sees "+client.ip.String())
	l.reaches(client, "udp", moved+":22080", "web sees "+client.ip.String())
	l.reaches(client, "tcp", moved+":22081", refused)
	l.reaches(l.host, "tcp", "127.0.0.1:22080", "web sees 169.254.1.1")
	l.reaches(web.node, "tcp", client.at("99"), "client sees "+moved)
	l.reaches(web.node, "udp", client.at("99"), "client sees "+moved)
	// And so does, a little later, who goes on with the same socket of UDP.
	var answer string
	for range 100 {
		answer, _ = question(udp, patience/5)
		if answer = withoutPort(answer); answer == "client sees "+moved {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("UDP that goes on: %q", answer)
}

func (l *lab) awaitState(p *pod, want sandbox.State) {
	l.Helper()
	var got sandbox.State
	for range 500 {
		i, err := p.Info()
		l.must(err)
		if got = i.State; got == want {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	l.Fatalf("%s is %s, want %s", p.name, got, want)
}

// A pod is removed and made again under traffic from outside. Who comes in that moment
// is answered by the pod or refused: neither heard by anybody else nor kept waiting, by
// packets that are still sent to where the pod was.
func TestRemoveUnderTraffic(t *testing.T) {
	l := newLab(t)
	client := l.machine("client")
	other := l.pod("other", "22081:80")
	l.serve(other.node, "tcp", ":80")
	l.serve(l.host, "tcp", ":80")
	rounds := 5
	if *full {
		rounds = 50
	}
	const atOnce = 4
	heard := make(map[string]int)
	for range rounds {
		web := l.pod("web", "22080:80")
		l.member(web)
		web.leave()
		done := make(chan struct{})
		answers := make(chan string)
		var clients sync.WaitGroup
		for range atOnce {
			clients.Go(func() {
				for {
					select {
					case <-done:
						return
					default:
					}
					answer, err := askFrom(client, "tcp", hostIP+":22080", "", patience/5)
					if err != nil {
						answer = outcome(err)
					}
					answers <- withoutPort(answer)
				}
			})
		}
		removed := make(chan error, 1)
		go func() {
			time.Sleep(5 * time.Millisecond)
			removed <- web.Remove(background)
			close(done)
			clients.Wait()
			close(answers)
		}()
		for answer := range answers {
			heard[answer]++
		}
		l.must(<-removed)
		l.reaches(client, "tcp", hostIP+":22080", refused)
	}
	t.Logf("heard: %v", heard)
	if heard["web sees "+client.ip.String()] == 0 {
		t.Error("the pod was never heard")
	}
	// A busy machine has answers in a queue when the link goes, and loses them; but that
	// is rare.
	if lost := heard[nothing]; lost > rounds*atOnce/5 {
		t.Errorf("%d times there was no answer", lost)
	}
	for answer, n := range heard {
		if !slices.Contains([]string{"web sees " + client.ip.String(), refused, ended, nothing}, answer) {
			t.Errorf("heard %d times: %s", n, answer)
		}
	}
}
