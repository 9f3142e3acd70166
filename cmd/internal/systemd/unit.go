// Package systemd writes units of systemd that make a pod when the machine comes up, and
// remove it in order when it goes down. It runs nothing and asks nothing of systemd.
package systemd

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"
)

// MadeBy is the annotation of a pod with the flags of podbox create that made it, as a
// list in JSON.
const MadeBy = "podbox.io/made-by"

// ErrNotSaid is matched when a unit has no way to say something.
var ErrNotSaid = errors.New("cannot be said in a unit")

// A Service is a unit that has a pod as long as it is active. All command lines begin with
// the path of a program.
type Service struct {
	// Pod is the pod's name. That of the unit follows from it.
	Pod string
	// Comment is a line on top.
	Comment string
	// Start makes the pod, one command after the other. Stop removes it. After is done
	// when it has been stopped, or could not be started; Before, before it is started.
	Before, Start, Stop, After [][]string
	// Reload, if there is one, changes the pod to what Input says.
	Reload [][]string
	// Input is what all commands have as their standard input. Empty: nothing.
	Input []byte
	// Dirs are directories that must be there first, if they are mounts.
	Dirs []string
	// Grace is how long the commands of Stop may take.
	Grace time.Duration
}

// Name returns the name of the unit: that of a template's instance, so that a pod is started
// in the same way whether it has a unit of its own or a manifest for podbox@.service.
func (s *Service) Name() string { return "podbox@" + s.Pod + ".service" }

// Encode returns the unit as a file. ErrNotSaid.
func (s *Service) Encode() ([]byte, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# %s\n\n[Unit]\nDescription=Pod %s\nDocumentation=man:podbox(1)\n", s.Comment, s.Pod)
	// Whoever loads rules of nftables at boot flushes those of podbox.
	b.WriteString(`Wants=network-online.target podbox-network.service
After=network-online.target nss-lookup.target nftables.service firewalld.service ufw.service podbox-network.service
`)
	if len(s.Dirs) > 0 {
		line, err := words(s.Dirs)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "RequiresMountsFor=%s\n", line)
	}
	// An image may not come at once.
	b.WriteString(`StartLimitIntervalSec=15min
StartLimitBurst=5

[Service]
Type=oneshot
RemainAfterExit=yes
Restart=on-failure
RestartSec=30s
`)
	fmt.Fprintf(&b, "TimeoutStopSec=%d\n", int64(s.Grace/time.Second))
	if len(s.Input) > 0 {
		if err := input(&b, s.Input); err != nil {
			return nil, err
		}
	}
	for _, c := range []struct {
		key   string
		lines [][]string
	}{{"ExecStartPre", s.Before}, {"ExecStart", s.Start}, {"ExecReload", s.Reload}, {"ExecStop", s.Stop}, {"ExecStopPost", s.After}} {
		for _, line := range c.lines {
			text, err := CommandLine(line)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", c.key, err)
			}
			fmt.Fprintf(&b, "%s=%s\n", c.key, text)
		}
	}
	b.WriteString("\n[Install]\nWantedBy=multi-user.target\n")
	for line := range bytes.Lines(b.Bytes()) {
		if len(line) > maxLine {
			return nil, fmt.Errorf("%.20s...: %w: a line of %d bytes", line, ErrNotSaid, len(line))
		}
	}
	return b.Bytes(), nil
}

// input writes text, which is to be lines.
func input(b *bytes.Buffer, text []byte) error {
	b.WriteString("StandardInput=data\n")
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	for i := 0; i < len(lines); i++ {
		line, err := inputLine(lines[i])
		if err != nil {
			return fmt.Errorf("line %d: %w", i+1, err)
		}
		// Without a value the setting would forget what it had.
		for ; i+1 < len(lines) && lines[i+1] == ""; i++ {
			line += `\n`
		}
		fmt.Fprintf(b, "StandardInputText=%s\n", line)
	}
	return nil
}
