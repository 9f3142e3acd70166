package launcher

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/podbox/podbox/sandbox"
)

// TestUpdateNames changes a pod's names under a program on the host's filesystem and
// a container: both see it in the files that they have, one time after the other.
func TestUpdateNames(t *testing.T) {
	const look = "while read x; do grep -v '^search\\|^options' /etc/resolv.conf | tr '\\n' ' '; tail -n +3 /etc/hosts | tr '\\t\\n' '  '; echo; done"
	pod := newPod(t, sandbox.Spec{Hostname: "web"})
	dns := func(servers ...string) sandbox.DNS {
		d := sandbox.DNS{Only: true}
		for _, s := range servers {
			d.Servers = append(d.Servers, netip.MustParseAddr(s))
		}
		return d
	}
	ask := map[string]func() string{}
	for name, spec := range map[string]*specs.Spec{
		"a program on the host's filesystem": command("sh", "-c", look),
		"a container":                        container(t, newRootfs(t), look),
	} {
		stdin, questions := io.Pipe()
		answers, stdout := io.Pipe()
		p, err := Start(bg, pod, spec, IO{Stdin: stdin, Stdout: stdout})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			questions.Close()
			if status, err := p.Wait(bg); err != nil || status != 0 {
				t.Errorf("%s: status %d, %v", name, status, err)
			}
		})
		lines := bufio.NewScanner(answers)
		ask[name] = func() string {
			fmt.Fprintln(questions)
			lines.Scan()
			return strings.TrimSpace(lines.Text())
		}
	}
	for _, tt := range []struct {
		dns   sandbox.DNS
		hosts []sandbox.Host
		want  string
	}{
		{dns("192.0.2.1", "192.0.2.2"), []sandbox.Host{{Name: "db", IP: netip.MustParseAddr("192.0.2.9")}}, "nameserver 192.0.2.1 nameserver 192.0.2.2 10.88.0.2 web fd70:6f64:626f:7800::2 web 192.0.2.9 db"},
		{dns("fd00::1"), nil, "nameserver fd00::1 10.88.0.2 web fd70:6f64:626f:7800::2 web"},
		{dns(), nil, "10.88.0.2 web fd70:6f64:626f:7800::2 web"},
	} {
		if err := pod.Update(bg, sandbox.Change{Names: &sandbox.Names{DNS: tt.dns, Hosts: tt.hosts}}); err != nil {
			t.Fatal(err)
		}
		for name, look := range ask {
			if got := look(); got != tt.want {
				t.Errorf("%s: %q, want %q", name, got, tt.want)
			}
		}
	}
	if err := pod.Update(bg, sandbox.Change{Names: &sandbox.Names{Hosts: []sandbox.Host{{Name: "a b"}}}}); !errors.Is(err, sandbox.ErrInvalid) {
		t.Errorf("a wrong name: %v", err)
	}
	// What was refused has changed nothing.
	for name, look := range ask {
		if got := look(); strings.Contains(got, "nameserver") {
			t.Errorf("%s: %q", name, got)
		}
	}
}
