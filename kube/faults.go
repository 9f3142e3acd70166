package kube

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// faults collects what is wrong with an object whose form is right.
type faults struct{ list []fault }

type fault struct{ path, text string }

func (f *faults) add(at *field.Path, text string) {
	f.list = append(f.list, fault{at.String(), text})
}

// want says of a value what is wanted instead.
func (f *faults) want(at *field.Path, value any, want string) {
	if s, ok := value.(string); ok {
		value = short(s)
	}
	f.add(at, fmt.Sprintf("%v: want %s", value, want))
}

// all adds what a validation of the API machinery says.
func (f *faults) all(at *field.Path, value string, complaints []string) {
	if len(complaints) > 0 {
		f.add(at, fmt.Sprintf("%s: %s", short(value), strings.Join(complaints, "; ")))
	}
}

// between wants a number that is from low to high.
func (f *faults) between(at *field.Path, n, low, high int64) {
	if n < low || n > high {
		f.want(at, n, fmt.Sprintf("a number from %d to %d", low, high))
	}
}

func (f *faults) required(at *field.Path, value, what string) bool {
	if value == "" {
		f.add(at, "want "+what)
	}
	return value != ""
}

// oneOf wants one of some words. The empty one is the absence of a value.
func oneOf[T ~string](f *faults, at *field.Path, value T, words ...T) {
	if value == "" || slices.Contains(words, value) {
		return
	}
	f.want(at, string(value), list(words, "or"))
}

// list returns "a, b or c".
func list[T ~string](words []T, last string) string {
	var b strings.Builder
	for i, w := range words {
		switch {
		case i == 0:
		case i == len(words)-1:
			b.WriteString(" " + last + " ")
		default:
			b.WriteString(", ")
		}
		b.WriteString(string(w))
	}
	return b.String()
}

// A choice is one of several fields of which one is to be set.
type choice struct {
	name string
	set  bool
}

// one wants exactly one of choices, and returns its name.
func (f *faults) one(at *field.Path, choices []choice) string {
	var set, names []string
	for _, c := range choices {
		names = append(names, c.name)
		if c.set {
			set = append(set, c.name)
		}
	}
	switch len(set) {
	case 0:
		f.add(at, "want one of "+list(names, "or"))
	case 1:
		return set[0]
	default:
		f.add(at, fmt.Sprintf("%s: want one of them", list(set, "and")))
	}
	return ""
}

func (d *decoder) validate(doc *document, f *faults) {
	for _, one := range f.list {
		d.complain(doc.problem(one.path, one.text))
	}
}
