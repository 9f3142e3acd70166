package nettest

import (
	"fmt"
	"os"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/podbox/podbox/launcher"
)

// memberEnv makes the test program a server, of the name that it has, on ports 80 of
// TCP and UDP, so that a pod has a member that serves.
const memberEnv = "PODBOX_TEST_SERVE"

func serveAsMember(name string) int {
	for _, network := range []string{"tcp", "udp"} {
		c, err := serve(name, network, ":80")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer c.Close()
	}
	fmt.Println("ready")
	select {}
}

// member starts a server in a pod, as a program of its own.
func (l *lab) member(p *pod) {
	l.Helper()
	self, err := os.Executable()
	l.must(err)
	r, w, err := os.Pipe()
	l.must(err)
	defer r.Close()
	_, err = launcher.Start(l.Context(), p.Sandbox, &specs.Spec{Process: &specs.Process{
		Args: []string{self}, Cwd: "/", Env: []string{memberEnv + "=" + p.name},
	}}, launcher.IO{Stdout: w, Stderr: os.Stderr})
	w.Close()
	l.must(err)
	if _, err := r.Read(make([]byte, 8)); err != nil {
		l.Fatalf("a member of %s: %v", p.name, err)
	}
}
