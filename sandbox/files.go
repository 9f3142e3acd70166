package sandbox

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
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
	if s.shares(Net) || !s.DNS.isZero() {
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
			b = hostsFile(rec, hostNames)
		case "resolv.conf":
			b = resolvConf(&rec.Spec, hostResolvers())
		case "hostname":
			b = []byte(rec.Spec.hostname() + "\n")
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

// maxHosts limits, in bytes, what is taken of the host's hosts(5).
const maxHosts = 1 << 20

// hostNames reads the host's hosts(5). A host may have none.
func hostNames() []byte {
	f, err := os.Open("/etc/hosts")
	if err != nil {
		return nil
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxHosts))
	if err != nil {
		return nil
	}
	if len(b) > 0 && b[len(b)-1] != '\n' {
		b = append(b, '\n')
	}
	return b
}

// hostsFile returns a pod's hosts(5); host tells what is in the host's, for a pod
// that uses its network.
func hostsFile(rec *record, host func() []byte) []byte {
	var b bytes.Buffer
	if rec.Spec.shares(Net) {
		ownNames(&b, rec)
	} else {
		b.Write(host())
	}
	// An address stands where it comes first, with all its names.
	var order []netip.Addr
	lines := make(map[netip.Addr][]string)
	for _, h := range rec.Spec.Hosts {
		if lines[h.IP] == nil {
			order = append(order, h.IP)
		}
		lines[h.IP] = append(lines[h.IP], h.Name)
	}
	for _, ip := range order {
		fmt.Fprintf(&b, "%s\t%s\n", ip, strings.Join(lines[ip], "\t"))
	}
	return b.Bytes()
}

func ownNames(b *bytes.Buffer, rec *record) {
	b.WriteString("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n")
	name := rec.Spec.Hostname
	if name == "" {
		return
	}
	if rec.Spec.Domain != "" {
		// The full name first: it is the canonical one.
		name += "." + rec.Spec.Domain + "\t" + name
	}
	own := false
	for _, ip := range []netip.Addr{rec.Address.IP, rec.Address.IP6} {
		if ip.IsValid() {
			fmt.Fprintf(b, "%s\t%s\n", ip, name)
			own = true
		}
	}
	if !own {
		fmt.Fprintf(b, "127.0.1.1\t%s\n", name)
	}
}

// resolvers is what matters of a resolv.conf(5).
type resolvers struct {
	servers []string
	search  []string
	options []string
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
		case "search", "domain": // of several the last counts
			r.search = w[1:]
		case "options":
			r.options = append(r.options, w[1:]...)
		}
	}
	return r
}

// mixed returns what a pod has of what is given to it and what the host has.
func (d *DNS) mixed(host resolvers) resolvers {
	given := resolvers{search: d.Search, options: d.Options}
	for _, a := range d.Servers {
		given.servers = append(given.servers, a.String())
	}
	switch {
	case d.Only:
		return given
	case d.Merge:
		given.servers = union(host.servers, given.servers)
		given.search = union(host.search, given.search)
	}
	if len(given.servers) == 0 {
		given.servers = host.servers
	}
	if len(given.search) == 0 {
		given.search = host.search
	}
	kept := slices.DeleteFunc(slices.Clone(host.options), func(o string) bool {
		return slices.ContainsFunc(d.Options, func(given string) bool { return optionName(given) == optionName(o) })
	})
	given.options = append(kept, given.options...)
	return given
}

// union returns the elements of a and then those of b, each once.
func union(a, b []string) []string {
	var all []string
	for _, s := range slices.Concat(a, b) {
		if !slices.Contains(all, s) {
			all = append(all, s)
		}
	}
	return all
}

// optionName returns what an option of resolv.conf(5) is about.
func optionName(o string) string {
	name, _, _ := strings.Cut(o, ":")
	return name
}

func resolvConf(s *Spec, host resolvers) []byte {
	r := s.DNS.mixed(host)
	var b bytes.Buffer
	if len(r.search) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(r.search, " "))
	}
	if len(r.options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(r.options, " "))
	}
	for _, a := range r.servers {
		fmt.Fprintf(&b, "nameserver %s\n", a)
	}
	if len(r.servers) == 0 && !s.DNS.Only {
		b.WriteString("# the host has no resolver that a pod can reach\n")
	}
	return b.Bytes()
}

// MemberFiles returns the names of the files of a pod (see Sandbox.File) with the
// paths that they have for members.
func MemberFiles() map[string]string { return maps.Clone(memberFiles) }
