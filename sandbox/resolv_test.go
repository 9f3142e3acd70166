package sandbox

import (
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestResolvConf(t *testing.T) {
	host := parseResolvConf([]byte("# x\nnameserver 127.0.0.53\nnameserver ::1\nnameserver 10.0.0.1\nnameserver fe80::1%eth0\nsearch z\nsearch a.b c.d\noptions ndots:5\noptions edns0\nbad\n"), false)
	one := []netip.Addr{netip.MustParseAddr("1.1.1.1")}
	for _, tt := range []struct {
		dns  DNS
		want string
	}{
		{DNS{}, "search a.b c.d\noptions ndots:5 edns0\nnameserver 10.0.0.1\n"},
		{DNS{Servers: one}, "search a.b c.d\noptions ndots:5 edns0\nnameserver 1.1.1.1\n"},
		{DNS{Search: []string{"x.y"}}, "search x.y\noptions ndots:5 edns0\nnameserver 10.0.0.1\n"},
		{DNS{Options: []string{"ndots:2", "rotate"}}, "search a.b c.d\noptions edns0 ndots:2 rotate\nnameserver 10.0.0.1\n"},
		{DNS{Only: true}, ""},
		{DNS{Only: true, Servers: one, Search: []string{"x.y"}, Options: []string{"rotate"}}, "search x.y\noptions rotate\nnameserver 1.1.1.1\n"},
		{DNS{Merge: true, Servers: one, Search: []string{"x.y", "c.d"}}, "search a.b c.d x.y\noptions ndots:5 edns0\nnameserver 10.0.0.1\nnameserver 1.1.1.1\n"},
	} {
		if got := string(resolvConf(&Spec{DNS: tt.dns}, host)); got != tt.want {
			t.Errorf("%+v: %q, want %q", tt.dns, got, tt.want)
		}
	}
	if got := string(resolvConf(&Spec{}, resolvers{})); !strings.HasPrefix(got, "#") {
		t.Errorf("without resolvers: %q", got)
	}
}

func TestReadResolvers(t *testing.T) {
	const stub, uplink = "nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch lan\n", "nameserver 192.0.2.53\nnameserver fe80::1%2\nsearch lan\n"
	for _, tt := range []struct {
		name          string
		first, second string // empty: not there
		loopback      bool
		want          resolvers
	}{
		{"none", "", "", false, resolvers{}},
		{"systemd-resolved", stub, uplink, false, resolvers{servers: []string{"192.0.2.53"}, search: []string{"lan"}}},
		{"systemd-resolved, for a pod on the host's network", stub, uplink, true, resolvers{servers: []string{"127.0.0.53"}, search: []string{"lan"}, options: []string{"edns0", "trust-ad"}}},
		{"one of the host's own besides", "nameserver 127.0.0.1\nnameserver 192.0.2.1\n", uplink, false, resolvers{servers: []string{"192.0.2.1"}}},
		{"loopback alone", "nameserver ::1\nnameserver ::ffff:127.0.0.1\nsearch lan\n", "", false, resolvers{search: []string{"lan"}}},
		{"a link of the host's", "nameserver fe80::1\nnameserver 2001:db8::1%eth0\n", "", false, resolvers{}},
		{"IPv4 of a link: clouds have it", "nameserver 169.254.169.253\n", "", false, resolvers{servers: []string{"169.254.169.253"}}},
		{"CRLF, and a last line without an end", "search a b\r\nnameserver 192.0.2.1\r\nnameserver 192.0.2.2", "", false, resolvers{servers: []string{"192.0.2.1", "192.0.2.2"}, search: []string{"a", "b"}}},
		{"more than three", "nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\nnameserver 192.0.2.4\n", "", false, resolvers{servers: []string{"192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"}}},
		{"domain is one word", "domain a b\nnameserver 192.0.2.1\n", "", false, resolvers{servers: []string{"192.0.2.1"}, search: []string{"a"}}},
		{"comments", "; nameserver 192.0.2.1\n#nameserver 192.0.2.2\nnameserver 192.0.2.3 # this\n", "", false, resolvers{servers: []string{"192.0.2.3"}}},
		{"a long line", "nameserver " + strings.Repeat("9", maxResolv-100) + "\nnameserver 192.0.2.1\n", "", false, resolvers{servers: []string{"192.0.2.1"}}},
		{"a huge file", "nameserver 192.0.2.1\n" + strings.Repeat("#", maxResolv) + "\nnameserver 192.0.2.2\n", "", false, resolvers{servers: []string{"192.0.2.1"}}},
	} {
		dir := t.TempDir()
		for name, text := range map[string]string{"1": tt.first, "2": tt.second} {
			if text == "" {
				continue
			}
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		paths := []string{filepath.Join(dir, "1"), filepath.Join(dir, "2")}
		if got := readResolvers(paths, tt.loopback); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

func TestOverwrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hosts")
	for _, content := range []string{"one\ntwo\n", "1\n", "", "longer than all\n"} {
		if err := overwrite(path, []byte(content)); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != content {
			t.Errorf("%q, %v, want %q", got, err, content)
		}
	}
	// What a program has made huge is no matter.
	if err := os.Truncate(path, 1<<40); err != nil {
		t.Fatal(err)
	}
	if err := overwrite(path, []byte("x\n")); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "x\n" {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}
