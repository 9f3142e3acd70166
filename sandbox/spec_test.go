package sandbox

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/podbox/podbox/internal/names"
	"github.com/podbox/podbox/netns"
)

func TestValidate(t *testing.T) {
	long := strings.Repeat("a", 64)
	m := func(kv ...string) map[string]string { return map[string]string{kv[0]: kv[1]} }
	for _, tt := range []struct {
		field string // named in the error; empty if all is well
		spec  Spec
	}{
		{"", Spec{}},
		{"", Spec{Name: "a-1", Hostname: "x.y", Labels: m("example.org/app", "Web_1.2"), ShmSize: 1 << 20}},
		{"", Spec{Share: []Namespace{IPC}}},
		{"", Spec{Network: netns.Host()}},
		{"", Spec{Sysctls: m("net.ipv4.conf.eth0/1.forwarding", "1")}},
		{"name", Spec{Name: "Upper"}},
		{"name", Spec{Name: "-a"}},
		{"name", Spec{Name: "a-"}},
		{"name", Spec{Name: "a.b"}},
		{"name", Spec{Name: long}},
		{"name", Spec{Name: "../x"}},
		{"name", Spec{Name: "a\n"}},
		{"name", Spec{Name: "ä"}},
		{"share", Spec{Share: []Namespace{"mnt"}}},
		{"share", Spec{Share: []Namespace{Net}, Network: netns.Host()}},
		{"share", Spec{Share: []Namespace{IPC}, Network: netns.Pod()}},
		{"hostname", Spec{Hostname: long + "a"}},
		{"hostname", Spec{Hostname: "a b"}},
		{"hostname", Spec{Hostname: "x", Share: []Namespace{Net}}},
		{"shm size", Spec{ShmSize: 1}},
		{"shm size", Spec{ShmSize: -5}},
		{"shm size", Spec{ShmSize: 1 << 20, Share: []Namespace{Net}}},
		{"label", Spec{Labels: m("", "x")}},
		{"label", Spec{Labels: m("a b", "x")}},
		{"label", Spec{Labels: m("/a", "x")}},
		{"label", Spec{Labels: m("a", "x y")}},
		{"label", Spec{Labels: m("a", long)}},
		{"", Spec{Annotations: m("Example.org/a", "any: text\n\x00 ä")}},
		{"", Spec{Annotations: m("a", strings.Repeat("x", 256<<10-1))}},
		{"annotations", Spec{Annotations: m("a", strings.Repeat("x", 256<<10))}},
		{"annotation", Spec{Annotations: m("a b", "x")}},
		{"annotation", Spec{Annotations: m("a/b/c", "x")}},
		{"annotation", Spec{Annotations: m("a", "\xff")}},
		{"sysctl", Spec{Sysctls: m("kernel.panic", "1")}},
		{"sysctl", Spec{Sysctls: m("vm.swappiness", "1")}},
		{"sysctl", Spec{Sysctls: m("net", "1")}},
		{"sysctl", Spec{Sysctls: m("net..x", "1")}},
		{"sysctl", Spec{Sysctls: m("net.//.x", "1")}},
		{"sysctl", Spec{Sysctls: m("net.a/../b", "1")}},
		{"sysctl", Spec{Sysctls: m("net.a", "1\n2")}},
		{"sysctl", Spec{Sysctls: m("net.a", "")}},
		{"sysctl", Spec{Sysctls: m("net.core.somaxconn", "1"), Network: netns.Host()}},
		{"dns server", Spec{DNS: DNS{Servers: []netip.Addr{netip.MustParseAddr("0.0.0.0")}}}},
		{"dns server", Spec{DNS: DNS{Servers: []netip.Addr{netip.MustParseAddr("fe80::1")}}}},
		{"", Spec{DNS: DNS{Servers: []netip.Addr{netip.MustParseAddr("fe80::1%eth0"), netip.MustParseAddr("127.0.0.1")}}}},
		{"dns search", Spec{DNS: DNS{Search: []string{"a b"}}}},
		{"dns search", Spec{DNS: DNS{Search: []string{"x\nnameserver 1.2.3.4"}}}},
		{"dns option", Spec{DNS: DNS{Options: []string{"a b"}}}},
		{"dns option", Spec{DNS: DNS{Options: []string{""}}}},
		{"dns option", Spec{DNS: DNS{Options: []string{"a\nnameserver 1.2.3.4"}}}},
		{"dns merge", Spec{DNS: DNS{Only: true, Merge: true}}},
		{"", Spec{Hostname: "a", Domain: "b.c", DNS: DNS{Only: true, Options: []string{"ndots:5"}}}},
		{"", Spec{Hostname: "a", Domain: strings.Repeat("b", 60) + ".cd"}},
		{"", Spec{Hostname: "a", Domain: strings.Repeat("b", 60) + ".c", HostnameIsFQDN: true}},
		{"want at most 64 characters with the domain, it has 65", Spec{Hostname: "a", Domain: strings.Repeat("b", 60) + ".cd", HostnameIsFQDN: true}},
		{"domain", Spec{HostnameIsFQDN: true}},
		{"domain", Spec{Domain: "a b"}},
		{"domain", Spec{Domain: "a\n1.2.3.4 x"}},
		{"domain", Spec{Domain: "a.b", Share: []Namespace{Net}}},
		{"host name", Spec{Hosts: []Host{{Name: "x y", IP: netns.Gateway}}}},
		{"host address", Spec{Hosts: []Host{{Name: "x"}}}},
	} {
		err := tt.spec.Validate()
		switch {
		case tt.field == "" && err != nil:
			t.Errorf("%+v: %v", tt.spec, err)
		case tt.field != "" && (!errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), tt.field) || strings.Contains(err.Error(), "\n")):
			t.Errorf("%s: %+v: %v", tt.field, tt.spec, err)
		}
	}
}

// Whatever is in a record, reading it neither panics nor yields a record of
// another pod.
func FuzzRecord(f *testing.F) {
	id := strings.Repeat("a", 64)
	f.Add([]byte(`{"version":1,"id":"` + id + `","state":"running","spec":{"name":"x","network":{"mode":"pod"}}}`))
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"pause":{"pid":-1},"namespaces":{"net":{"inode":1}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseRecord(b, id)
		if err == nil && (r.ID != id || !names.IsLabel(r.Spec.Name)) {
			t.Errorf("%s: %+v", b, r)
		}
	})
}

func FuzzValidate(f *testing.F) {
	f.Add("web", "net.core.somaxconn", "1")
	f.Fuzz(func(t *testing.T, name, key, value string) {
		s := Spec{Name: name, Hostname: name, Sysctls: map[string]string{key: value}, Labels: map[string]string{key: value}}
		if s.Validate() == nil && (strings.ContainsAny(name+value, "\n\x00") || strings.Contains(key, "..") || strings.Contains(key, "./")) {
			t.Errorf("%q %q %q", name, key, value)
		}
	})
}

func TestHostsFile(t *testing.T) {
	host := func() []byte { return []byte("127.0.0.1 localhost\n10.1.1.1 thehost\n") }
	hosts := []Host{
		{"foo", netip.MustParseAddr("10.0.0.1")}, {"other", netip.MustParseAddr("fd00::1")}, {"bar", netip.MustParseAddr("10.0.0.1")},
	}
	const local, aliases = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n", "10.0.0.1\tfoo\tbar\nfd00::1\tother\n"
	address := netns.Address{IP: netip.MustParseAddr("10.88.0.2"), IP6: netip.MustParseAddr("fd01::2")}
	for _, tt := range []struct {
		spec    Spec
		address netns.Address
		want    string
	}{
		{Spec{Name: "a"}, address, local + "10.88.0.2\ta\nfd01::2\ta\n"},
		{Spec{Name: "a", Hosts: hosts}, netns.Address{}, local + "127.0.1.1\ta\n" + aliases},
		{Spec{Name: "a", Domain: "s.ns.svc"}, address, local + "10.88.0.2\ta.s.ns.svc\ta\nfd01::2\ta.s.ns.svc\ta\n"},
		{Spec{Name: "a", Domain: "s.ns.svc", HostnameIsFQDN: true}, address, local + "10.88.0.2\ta.s.ns.svc\ta\nfd01::2\ta.s.ns.svc\ta\n"},
		{Spec{Name: "a", Network: netns.Host(), Hosts: hosts}, netns.Address{}, string(host()) + aliases},
	} {
		rec := &record{Spec: tt.spec.withDefaults(noID), Address: tt.address}
		if got := string(hostsFile(rec, host)); got != tt.want {
			t.Errorf("%+v:\n got %q\nwant %q", tt.spec, got, tt.want)
		}
	}
}
