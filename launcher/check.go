package launcher

import (
	"errors"
	"fmt"
	"path"
	"reflect"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

var (
	// ErrInvalid is matched by errors about wrong values.
	ErrInvalid = errors.New("invalid value")
	// ErrNotSupported is matched by errors about fields that are not acted on.
	ErrNotSupported = errors.New("not supported yet")
)

// check reports the first field of a spec that is wrong, or that the launcher
// does not act on.
func check(spec *specs.Spec) error {
	if spec == nil || spec.Process == nil || len(spec.Process.Args) == 0 || spec.Process.Args[0] == "" {
		return fmt.Errorf("process.args: %w: want a program", ErrInvalid)
	}
	p := spec.Process
	if !path.IsAbs(p.Cwd) {
		return fmt.Errorf("process.cwd %q: %w: want an absolute path", p.Cwd, ErrInvalid)
	}
	for _, s := range append(append([]string{p.Cwd}, p.Args...), p.Env...) {
		if strings.ContainsRune(s, 0) {
			return fmt.Errorf("process: %q: %w: has a NUL byte", s, ErrInvalid)
		}
	}
	for _, e := range p.Env {
		if i := strings.IndexByte(e, '='); i <= 0 {
			return fmt.Errorf("process.env %q: %w: want NAME=VALUE", e, ErrInvalid)
		}
	}
	if b := p.ConsoleSize; b != nil && (b.Width > 65535 || b.Height > 65535) {
		return fmt.Errorf("process.consoleSize: %w: want at most 65535", ErrInvalid)
	}
	for _, l := range p.Rlimits {
		if _, ok := rlimits[l.Type]; !ok {
			return fmt.Errorf("process.rlimits %q: %w: no such limit", l.Type, ErrInvalid)
		}
	}

	// What is left when all that is acted on is taken away must be nothing.
	rest, proc := *spec, *p
	rest.Version = ""
	proc.Terminal, proc.ConsoleSize = false, nil
	proc.User.UID, proc.User.GID, proc.User.AdditionalGids, proc.User.Umask = 0, 0, nil, nil
	proc.Args, proc.Env, proc.Cwd = nil, nil, ""
	proc.Rlimits, proc.NoNewPrivileges = nil, false
	rest.Process = nil
	if reflect.ValueOf(&rest).Elem().IsZero() && reflect.ValueOf(&proc).Elem().IsZero() {
		return nil // without looking at each field's name
	}
	field := firstSet(reflect.ValueOf(proc))
	if field != "" {
		field = "process." + field
	} else {
		field = firstSet(reflect.ValueOf(rest))
	}
	if field != "" {
		return fmt.Errorf("%s: %w", field, ErrNotSupported)
	}
	return nil
}

// firstSet returns the JSON path of the first field below v that is not zero, or
// "".
func firstSet(v reflect.Value) string {
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	for i := range v.NumField() {
		f := v.Field(i)
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		switch f.Kind() {
		case reflect.Struct:
		case reflect.Pointer:
			// Also an empty structure may mean something: no capabilities.
			if f.IsNil() {
				continue
			}
			if f.Elem().Kind() == reflect.Struct {
				if inner := firstSet(f); inner != "" {
					return name + "." + inner
				}
			}
			return name
		case reflect.Slice, reflect.Map, reflect.String:
			if f.Len() > 0 {
				return name
			}
			continue
		default:
			if !f.IsZero() {
				return name
			}
			continue
		}
		if inner := firstSet(f); inner != "" {
			return name + "." + inner
		}
	}
	return ""
}
