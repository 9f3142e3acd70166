package kube

import (
	"errors"
	"fmt"
	"strings"

	"github.com/podbox/podbox/sandbox"
)

// ErrInvalid is matched by all that is wrong with manifests.
var ErrInvalid = sandbox.ErrInvalid

// ErrImmutable is matched when a pod would have to be made anew for what is asked.
var ErrImmutable = errors.New("cannot be changed while the pod is there")

// ErrNotSaid is matched when a pod is something that Pod YAML has no words for.
var ErrNotSaid = errors.New("cannot be said in Pod YAML")

// A Problem is one thing that is wrong in a manifest. Its text is one line.
type Problem struct {
	Source   string // the file
	Document int    // its number in that, from 1
	Line     int    // in the file, from 1; 0 if it is about no line
	Path     string // of the field, as spec.containers[0].image; empty if it is about none
	Text     string
}

func (p *Problem) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: document %d", p.Source, p.Document)
	if p.Line > 0 {
		fmt.Fprintf(&b, ", line %d", p.Line)
	}
	b.WriteString(": ")
	if p.Path != "" {
		b.WriteString(p.Path + ": ")
	}
	// Texts of libraries may have lines of their own, and what they quote too.
	b.WriteString(strings.Join(strings.Fields(p.Text), " "))
	return b.String()
}

// Is makes a Problem match ErrInvalid.
func (p *Problem) Is(target error) bool { return target == ErrInvalid }
