package image

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Overrides say how an image is to be run where that is not left to it. The zero value
// leaves all to it.
type Overrides struct {
	// Entrypoint is what comes first, in the place of the image's and of its Cmd. Nil:
	// the image's. Empty, but not nil: nothing.
	Entrypoint []string
	// Args come after it. Nil: the image's Cmd, if its Entrypoint is in use.
	Args []string
	// Env has NAME=VALUE, each of which takes the place of the image's.
	Env []string
	// Dir is the working directory; relative ones are in that of the image.
	Dir string
	// User is USER[:GROUP], names of the image's or numbers.
	User string
}

// defaultPath is where programs are looked for if the image does not say.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Command returns what is run, as docker, podman and the kubelet decide it. ErrInvalid if
// that is nothing.
func (c *Config) Command(o Overrides) ([]string, error) {
	entry, args := c.Entrypoint, c.Cmd
	if o.Entrypoint != nil {
		entry, args = o.Entrypoint, nil
	}
	if o.Args != nil {
		args = o.Args
	}
	command := slices.Concat(entry, args)
	if len(command) == 0 || command[0] == "" {
		return nil, fmt.Errorf("command: %w: the image has none, and none is given", ErrInvalid)
	}
	return command, nil
}

// Environ returns the environment: that of the image, in which each name stands once,
// with what is given, and PATH. What of the image is no NAME=VALUE is left out.
func (c *Config) Environ(o Overrides) []string {
	env := []string{"PATH=" + defaultPath}
	index := map[string]int{"PATH": 0}
	for _, e := range slices.Concat(c.Env, o.Env) {
		name, _, ok := strings.Cut(e, "=")
		if !ok || name == "" || strings.ContainsRune(e, 0) {
			continue
		}
		if i, has := index[name]; has {
			env[i] = e
			continue
		}
		index[name] = len(env)
		env = append(env, e)
	}
	return env
}

// Dir returns the working directory.
func (c *Config) Dir(o Overrides) string {
	dir := path.Join("/", c.WorkingDir)
	if path.IsAbs(o.Dir) {
		return path.Clean(o.Dir)
	}
	return path.Join(dir, o.Dir)
}

// VolumePaths returns where the image wants directories that are not part of it, sorted.
// What is no path for one is left out.
func (c *Config) VolumePaths() []string {
	var list []string
	for p := range maps.Keys(c.Volumes) {
		if p = path.Join("/", p); p != "/" && !strings.ContainsRune(p, 0) && !slices.Contains(list, p) {
			list = append(list, p)
		}
	}
	slices.Sort(list)
	return list
}

// Signal returns the signal that asks it to end; 0 if it does not say. ErrInvalid.
func (c *Config) Signal() (unix.Signal, error) {
	if c.StopSignal == "" {
		return 0, nil
	}
	return ParseSignal(c.StopSignal)
}

// Where real-time signals begin and end, as programs see it: the C library has taken the
// first two.
const rtMin, rtMax = 34, 64

// ParseSignal reads a signal by name or number: TERM, SIGTERM, 15, RTMIN+3. ErrInvalid.
func ParseSignal(s string) (unix.Signal, error) {
	name := strings.TrimPrefix(strings.ToUpper(s), "SIG")
	if n, err := strconv.Atoi(name); err == nil && n > 0 && n <= rtMax && name == s {
		return unix.Signal(n), nil
	}
	if sig := unix.SignalNum("SIG" + name); sig != 0 {
		return sig, nil
	}
	for prefix, from := range map[string]int{"RTMIN": rtMin, "RTMAX": rtMax} {
		rest, ok := strings.CutPrefix(name, prefix)
		if !ok {
			continue
		}
		n, err := 0, error(nil)
		if rest != "" {
			n, err = strconv.Atoi(rest)
		}
		if sig := from + n; err == nil && sig >= rtMin && sig <= rtMax {
			return unix.Signal(sig), nil
		}
	}
	return 0, fmt.Errorf("signal %q: %w: want a name such as TERM or a number up to %d", s, ErrInvalid, rtMax)
}
