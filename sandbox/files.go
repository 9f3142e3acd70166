package sandbox

import (
	"bufio"
	"bytes"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
)

// The files that members see in place of the host's, and where.
var memberFiles = map[string]string{
	"hosts":       "/etc/hosts",
	"resolv.conf": "/etc/resolv.conf",
	"hostname":    "/etc/hostname",
}

// files returns which of the files a pod has. A pod that uses the host's network
// keeps the host's names too, unless it is given others.
func (s *Spec) files() []string {
	var names []string
	if s.shares(Net) || len(s.Hosts) > 0 {
		names = append(names, "hosts")
	}
	if s.shares(Net) || len(s.DNS.Servers) > 0 || len(s.DNS.Search) > 0 {
		names = append(names, "resolv.conf")
	}
	if s.shares(UTS) {
		names = append(names, "hostname")
	}
	return names
}

func writeFiles(dir string, rec *record) error {
	if err := os.WriteFile(filepath.Join(dir, turnstile), nil, 0o600); err != nil {
		return err
	}
	for _, name := range rec.Spec.files() {
		var b []byte
		switch name {
		case "hosts":
			b = hostsFile(rec)
		case "resolv.conf":
			b = resolvConf(&rec.Spec, hostResolvers())
		case "hostname":
			b = []byte(rec.Spec.Hostname + "\n")
		}
		// Written in place: members have the file itself mounted. They may be
		// any user, whatever our umask.
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o644); err != nil {
			return err
		}
		if err := os.Chmod(path, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func hostsFile(rec *record) []byte {
	var b bytes.Buffer
	b.WriteString("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n")
	if name := rec.Spec.Hostname; name != "" {
		own := false
		for _, ip := range []netip.Addr{rec.Address.IP, rec.Address.IP6} {
			if ip.IsValid() {
				fmt.Fprintf(&b, "%s\t%s\n", ip, name)
				own = true
			}
		}
		if !own {
			fmt.Fprintf(&b, "127.0.1.1\t%s\n", name)
		}
	}
	for _, h := range rec.Spec.Hosts {
		fmt.Fprintf(&b, "%s\t%s\n", h.IP, h.Name)
	}
	return b.Bytes()
}

// resolvers is what matters of a resolv.conf(5) of the host.
type resolvers struct {
	servers []string
	rest    []string // search, domain and options lines
}

// hostResolvers reads the host's resolv.conf. A resolver on the host's loopback
// cannot be reached from a pod; where systemd-resolved puts one, it keeps the real
// ones in a file of its own.
func hostResolvers() resolvers {
	var last resolvers
	for _, path := range []string{"/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"} {
		b, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		last = parseResolvConf(b)
		if len(last.servers) > 0 {
			break
		}
	}
	return last
}

func parseResolvConf(b []byte) resolvers {
	var r resolvers
	s := bufio.NewScanner(bytes.NewReader(b))
	for s.Scan() {
		w := strings.Fields(s.Text())
		if len(w) < 2 {
			continue
		}
		switch w[0] {
		case "nameserver":
			a, err := netip.ParseAddr(w[1])
			if err == nil && !a.IsLoopback() && a.Zone() == "" {
				r.servers = append(r.servers, w[1])
			}
		case "search", "domain", "options":
			r.rest = append(r.rest, strings.Join(w, " "))
		}
	}
	return r
}

func resolvConf(s *Spec, host resolvers) []byte {
	var b bytes.Buffer
	if len(s.DNS.Search) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(s.DNS.Search, " "))
	}
	for _, line := range host.rest {
		if len(s.DNS.Search) == 0 || strings.HasPrefix(line, "options ") {
			fmt.Fprintln(&b, line)
		}
	}
	for _, a := range s.DNS.Servers {
		fmt.Fprintf(&b, "nameserver %s\n", a)
	}
	if len(s.DNS.Servers) == 0 {
		for _, a := range host.servers {
			fmt.Fprintf(&b, "nameserver %s\n", a)
		}
		if len(host.servers) == 0 {
			b.WriteString("# the host has no resolver that a pod can reach\n")
		}
	}
	return b.Bytes()
}

// MemberFiles returns the names of the files of a pod (see Sandbox.File) with the
// paths that they have for members.
func MemberFiles() map[string]string { return maps.Clone(memberFiles) }
