package nettest

import (
	"errors"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/podbox/podbox/netns"
	"github.com/podbox/podbox/sandbox"
)

// nft has the tool of that name change the host's nftables, as others than podbox do.
func (l *lab) nft(commands string) {
	l.Helper()
	cmd := exec.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(commands)
	if out, err := cmd.CombinedOutput(); err != nil {
		l.Fatalf("nft: %v: %s", err, out)
	}
}

// Others flush the host's nftables. Then no port answers and nothing gets out, and all
// is back by a reload, or by whatever brings up or changes a pod. A connection that has
// been silent meanwhile goes on, for the kernel has not forgotten it.
func TestFlush(t *testing.T) {
	l := newLab(t)
	client := l.machine("client")
	web := l.pod("web", "22080:80", "22100-22102:22100-22102", "127.0.0.1:22081:80")
	second := l.pod("second", "22082:80")
	l.serve(web.node, "tcp", ":80")
	l.serve(web.node, "tcp", ":22101")
	l.serve(second.node, "tcp", ":80")
	l.serve(client, "tcp", ":99")
	all := func(when, want4, want6, loopback, second, out string) {
		t.Helper()
		var asked sync.WaitGroup
		for _, w := range []struct {
			from     *node
			to, want string
		}{
			{client, hostIP + ":22080", want4},
			{client, "[" + hostIP6 + "]:22080", want6},
			{client, hostIP + ":22101", want4},
			{l.host, "127.0.0.1:22081", loopback},
			{client, hostIP + ":22082", second},
			{web.node, client.at("99"), out},
		} {
			asked.Go(func() {
				if got := l.ask(w.from, "tcp", w.to, w.want); got != w.want {
					t.Errorf("%s: %s to %s: %s, want %s", when, w.from.name, w.to, got, w.want)
				}
			})
		}
		asked.Wait()
	}
	alive := func(when string) {
		t.Helper()
		all(when, "web sees "+client.ip.String(), "web sees "+client.ip6.String(), "web sees 169.254.1.1", "second sees "+client.ip.String(), "client sees "+hostIP)
	}
	alive("at first")
	for _, how := range []struct {
		name string
		heal func() error
	}{
		{"reload", func() error { return l.rt.ReloadNetwork(l.Context()) }},
		{"create", func() error { l.pod("third"); return nil }},
		{"start", func() error { return web.Start(l.Context()) }},
		{"start of another", func() error { return second.Start(l.Context()) }},
		{"publish", func() error { return second.Publish(l.Context(), l.ports("22090:90")...) }},
		{"stop and start", func() error {
			if err := second.Stop(l.Context(), sandbox.StopOptions{Grace: -1}); err != nil {
				return err
			}
			if err := second.Start(l.Context()); err != nil {
				return err
			}
			l.enter(second)
			l.serve(second.node, "tcp", ":80")
			return nil
		}},
	} {
		silent := l.converse(client, hostIP+":22080", "web sees "+client.ip.String())
		out := l.converse(web.node, client.at("99"), "client sees "+hostIP)
		l.must(errors.Join(silent.goesOn(patience), out.goesOn(patience), silent.acknowledge(), out.acknowledge()))
		l.nft("flush ruleset")
		all("flushed, before "+how.name, refused, refused, refused, refused, nothing)
		l.must(how.heal())
		alive("after " + how.name)
		if err := silent.goesOn(patience); err != nil {
			t.Errorf("%s: a connection in, silent meanwhile: %v", how.name, err)
		}
		if err := out.goesOn(patience); err != nil {
			t.Errorf("%s: a connection out, silent meanwhile: %v", how.name, err)
		}
	}
	// What is not podbox's is not touched by it.
	l.nft("table inet tn {\n chain c {\n counter\n }\n }")
	l.must(l.rt.ReloadNetwork(l.Context()))
	l.nft("delete table inet tn")
}

// A firewall of somebody else that drops by default what is forwarded keeps everything
// from pods, whatever podbox's own table says. It is named, and the cure that is given
// works.
func TestDefaultDrop(t *testing.T) {
	l := newLab(t)
	client := l.machine("client")
	web := l.pod("web", "22080:80")
	other := l.pod("other")
	l.serve(web.node, "tcp", ":80")
	l.serve(client, "tcp", ":99")
	all := func(when, in, in6, beside, out string) {
		t.Helper()
		var asked sync.WaitGroup
		for _, w := range []struct {
			from     *node
			to, want string
		}{
			{client, hostIP + ":22080", in},
			{client, "[" + hostIP6 + "]:22080", in6},
			{other.node, hostIP + ":22080", beside},
			{other.node, web.at("80"), beside},
			{web.node, client.at("99"), out},
		} {
			asked.Go(func() {
				if got := l.ask(w.from, "tcp", w.to, w.want); got != w.want {
					t.Errorf("%s: %s to %s: %s, want %s", when, w.from.name, w.to, got, w.want)
				}
			})
		}
		asked.Wait()
	}
	hindrances := func() string {
		found, err := netns.Hindrances()
		l.must(err)
		var s []string
		for _, h := range found {
			s = append(s, h.What)
		}
		return strings.Join(s, "\n")
	}
	open := func(when string) {
		t.Helper()
		all(when, "web sees "+client.ip.String(), "web sees "+client.ip6.String(), "web sees "+other.ip.String(), "client sees "+hostIP)
	}
	open("at first")
	if got := hindrances(); got != "" {
		t.Errorf("what stands in the way: %s", got)
	}
	l.Cleanup(func() { l.nft("delete table ip filter\ndelete table ip6 filter") })
	for _, family := range []string{"ip", "ip6"} {
		l.nft("table " + family + " filter {\n chain FORWARD {\n type filter hook forward priority filter; policy drop;\n }\n }")
	}
	all("a policy of drop", nothing, nothing, nothing, nothing)
	if got := hindrances(); !strings.Contains(got, "table ip filter, chain FORWARD") || !strings.Contains(got, "table ip6 filter, chain FORWARD") {
		t.Errorf("what stands in the way: %q", got)
	}
	// The host itself does not forward to its pods: those who ask on it are answered.
	l.reaches(l.host, "tcp", "127.0.0.1:22080", "web sees 169.254.1.1")
	// What iptables -I FORWARD -i pbx+ -j ACCEPT and -o pbx+ come to.
	for _, family := range []string{"ip", "ip6"} {
		for _, direction := range []string{"iifname", "oifname"} {
			l.nft("insert rule " + family + " filter FORWARD " + direction + ` "pbx*" accept`)
		}
	}
	open("cured")
}
