package sandbox

import (
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
	return writeMemberFiles(dir, rec, rec.Spec.files())
}

func writeMemberFiles(dir string, rec *record, files []string) error {
	for _, name := range files {
		var b []byte
		switch name {
		case "hosts":
			b = hostsFile(rec, hostNames)
		case "resolv.conf":
			b = resolvConf(&rec.Spec, resolversFor(rec))
		case "hostname":
			b = []byte(rec.Spec.hostname() + "\n")
		}
		if err := overwrite(filepath.Join(dir, name), b); err != nil {
			return err
		}
	}
	return nil
}

// overwrite changes what is in a file that members have mounted: the file itself, for
// they would not see another one in its place. It is never empty meanwhile, and who is
// killed half-way leaves blank lines at most.
func overwrite(path string, content []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	b := slices.Clone(content)
	// A program on the host's filesystem may have made it any size.
	if blank := st.Size() - int64(len(b)); 0 < blank && blank <= maxHosts {
		b = append(b, bytes.Repeat([]byte{'\n'}, int(blank))...)
	}
	if _, err := f.WriteAt(b, 0); err != nil {
		return err
	}
	if err := f.Truncate(int64(len(content))); err != nil {
		return err
	}
	// Members may be any user, whatever our umask.
	if err := f.Chmod(0o644); err != nil {
		return err
	}
	return f.Close()
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

// MemberFiles returns the names of the files of a pod (see Sandbox.File) with the
// paths that they have for members.
func MemberFiles() map[string]string { return maps.Clone(memberFiles) }
