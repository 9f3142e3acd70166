package cni

import (
	"errors"
	"fmt"
	"strings"

	"github.com/podbox/podbox/internal/fault"
)

var (
	// ErrInvalid is matched by errors about wrong values and wrong files.
	ErrInvalid = fault.ErrInvalid
	// ErrNotSupported is matched by errors about what a network cannot do.
	ErrNotSupported = errors.New("not supported by the network")
	// ErrNoNetwork is matched when no file describes a network of a name.
	ErrNoNetwork = errors.New("no such CNI network")
	// ErrNoPlugin is matched when the program of a plugin is not there.
	ErrNoPlugin = errors.New("no such CNI plugin")
	// ErrUnsafe is matched when others could change a file that says what root runs.
	ErrUnsafe = errors.New("unsafe")
	// ErrFlood is matched when a plugin says more than anybody wants to know.
	ErrFlood = errors.New("too much output")
)

// A NetworkError says that a network is not described.
type NetworkError struct {
	Name, Dir string
	// Known are the networks that are.
	Known []string
	// Err is about files that could not be read, of which one may be it; or nil.
	Err error
}

func (e *NetworkError) Error() string {
	s := fmt.Sprintf("network %q: %v in %s", e.Name, ErrNoNetwork, e.Dir)
	if len(e.Known) > 0 {
		s += ", which has " + strings.Join(e.Known, ", ")
	}
	if e.Err != nil {
		s += fmt.Sprintf(" (%v)", e.Err)
	}
	return s
}

func (e *NetworkError) Unwrap() []error { return []error{ErrNoNetwork, e.Err} }

// A MissingError says that the program of a plugin is in none of the directories.
type MissingError struct {
	Plugin string
	Dirs   []string
}

func (e *MissingError) Error() string {
	return fmt.Sprintf("plugin %q: %v in %s", e.Plugin, ErrNoPlugin, strings.Join(e.Dirs, ", "))
}

func (e *MissingError) Unwrap() error { return ErrNoPlugin }

// A PluginError says that a plugin was run, and what came of it.
type PluginError struct {
	Plugin string // the path of its program
	Verb   string // ADD, DEL, CHECK, GC, STATUS or VERSION
	// Code, Message and Details are what the plugin said. Code is 0 if it said nothing
	// that could be understood; then Err says what happened, and Details are the last lines
	// of its standard error.
	Code             uint
	Message, Details string
	Err              error
}

func (e *PluginError) Error() string {
	s := fmt.Sprintf("plugin %s: %s", e.Plugin, e.Verb)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	for _, words := range []string{e.Message, e.Details} {
		if words != "" {
			s += ": " + words
		}
	}
	return s
}

func (e *PluginError) Unwrap() error { return e.Err }
