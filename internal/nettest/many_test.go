package nettest

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/podbox/podbox/sandbox"
)

// Of thousands of connections through a published port, 64 at a time and as many that
// stay, none is lost, refused or led astray while other pods come and go, ports are
// published and unpublished, and the rules are made anew.
func TestManyConnections(t *testing.T) {
	connections := 1000
	if *full {
		connections = 10_000
	}
	const atOnce = 64
	l := newLab(t)
	client := l.machine("client")
	web := l.pod("web", "22080:80")
	l.serve(web.node, "tcp", ":80")
	descriptors := countDescriptors(t)
	want := "web sees " + client.ip.String()
	want6 := "web sees " + client.ip6.String()
	var staying []*conversation
	for i := range atOnce {
		if i%2 == 0 {
			staying = append(staying, l.converse(client, hostIP+":22080", want))
		} else {
			staying = append(staying, l.converse(client, "["+hostIP6+"]:22080", want6))
		}
	}

	done := make(chan struct{})
	var churn sync.WaitGroup
	var rounds [3]atomic.Int64
	for i, f := range []func(round int64) error{
		func(round int64) error { // pods come and go
			sb, err := l.rt.Create(background, sandbox.Spec{Name: fmt.Sprint("c", round), Ports: l.ports("22090:80", "22800-22899:800-899")})
			if err != nil {
				return err
			}
			return sb.Remove(background)
		},
		func(round int64) error { // so do ports of the pod itself, and of one that stays
			if err := web.Publish(background, l.ports("22081:80", "22082-22089:82-89/udp")...); err != nil {
				return err
			}
			return web.Unpublish(background, l.ports("22081:80", "22082-22089:82-89/udp")...)
		},
		func(int64) error { // and the rules
			time.Sleep(10 * time.Millisecond)
			return l.rt.ReloadNetwork(background)
		},
	} {
		churn.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if err := f(rounds[i].Add(1)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}

	began := time.Now()
	// A slow machine makes more connections, so that enough goes on meanwhile.
	enough := func() bool {
		return time.Since(began) > 60*time.Second || min(rounds[0].Load(), rounds[1].Load(), rounds[2].Load()) > 3
	}
	var clients sync.WaitGroup
	var made, failures atomic.Int64
	for worker := range atOnce {
		clients.Go(func() {
			// A thread of its own, once: to make one for each connection would be what is
			// measured.
			err := client.do(func() error {
				there := &node{name: client.name}
				for i := worker; i < connections || !enough(); i += atOnce {
					to, want := hostIP+":22080", want
					if i/atOnce%2 == 1 {
						to, want = "["+hostIP6+"]:22080", want6
					}
					made.Add(1)
					answer, err := askFrom(there, "tcp", to, "", patience)
					if err != nil || withoutPort(answer) != want {
						if failures.Add(1) < 10 {
							t.Errorf("connection %d to %s: %q, %v, want %q", i, to, answer, err, want)
						}
					}
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	var talk sync.WaitGroup
	for i, c := range staying {
		talk.Go(func() {
			for {
				select {
				case <-done:
					return
				case <-time.After(20 * time.Millisecond):
				}
				if err := c.goesOn(patience); err != nil {
					t.Errorf("connection %d, which stays, after %d words: %v", i, c.n, err)
					return
				}
			}
		})
	}
	clients.Wait()
	took := time.Since(began)
	close(done)
	churn.Wait()
	talk.Wait()
	known := l.number("net/netfilter/nf_conntrack_count")
	t.Logf("%d connections in %v, %d failed; %d pods came and went, ports did %d times, %d reloads; the kernel knows %d connections",
		made.Load(), took.Round(time.Millisecond), failures.Load(), rounds[0].Load(), rounds[1].Load(), rounds[2].Load(), known)
	for i := range rounds {
		if n := rounds[i].Load(); n < 3 {
			t.Errorf("of what should go on meanwhile, number %d was begun %d times only", i, n)
		}
	}
	// One for each connection, not more; it forgets them in minutes.
	if most := int(made.Load()) + atOnce + 100; known > most {
		t.Errorf("the kernel knows %d connections, want at most %d", known, most)
	}
	for _, c := range staying {
		c.Close()
	}
	// The servers' ends close a little later.
	for range 100 {
		if countDescriptors(t) <= descriptors {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%d descriptors, before there were %d:\n%s", countDescriptors(t), descriptors, strings.Join(listDescriptors(t), "\n"))
}

func countDescriptors(t *testing.T) int { return len(listDescriptors(t)) }

func listDescriptors(t *testing.T) (to []string) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if s, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil {
			to = append(to, s)
		}
	}
	return to
}
