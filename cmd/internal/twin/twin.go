// Package twin has podbox be two programs. podbox starts in three milliseconds and its
// supervisors stay small; the libraries for registries and Pod YAML would take that time
// again, and their memory of each supervisor. So they are linked into a second program,
// podbox-kube, which is installed beside the first, and which podbox becomes for some
// verbs.
package twin

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/cmd/internal/release"
)

// The programs of an installation.
const (
	Podbox = "podbox"
	Kube   = "podbox-kube"
)

var (
	// ErrMissing: the other program is not there.
	ErrMissing = errors.New("not installed beside it")
	// ErrVersion: the two programs are not of one version.
	ErrVersion = errors.New("not of one version")
)

// Supervise is the word on podbox's command line that makes it a pod's supervisor.
const Supervise = "supervise"

// A Verb is a command that podbox has podbox-kube do.
type Verb struct{ Name, Short string }

// Verbs returns the commands of podbox-kube.
func Verbs() []Verb {
	return []Verb{
		{"apply", "Make or change what Pod YAML describes"},
		{"delete", "Remove what Pod YAML names"},
		{"generate", "Print a pod as Pod YAML, or as a unit of systemd"},
		{"image", "Pull, load, list and remove images"},
	}
}

// Path returns the path of a program of this installation.
func Path(name string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	path := filepath.Join(filepath.Dir(self), name)
	switch info, err := os.Stat(path); {
	case errors.Is(err, os.ErrNotExist):
		return "", fmt.Errorf("program %s of %s: %w", name, self, ErrMissing)
	case err != nil:
		return "", err
	case !info.Mode().IsRegular():
		return "", fmt.Errorf("program %s of %s: no regular file", name, self)
	}
	return path, nil
}

// caller is the variable by which podbox tells podbox-kube its version.
const caller = "PODBOX_CALLER"

// Environ returns the environment for podbox-kube when podbox starts it.
func Environ() []string { return append(os.Environ(), caller+"="+release.Build().Version) }

// Become executes podbox-kube in the place of podbox, with the same arguments. It
// returns only if that is not possible.
func Become(args []string) error {
	path, err := Path(Kube)
	if err != nil {
		return err
	}
	return &os.PathError{Op: "execute", Path: path, Err: unix.Exec(path, append([]string{Kube}, args...), Environ())}
}

// Accept tells podbox-kube whether it may do what podbox asks of it: if podbox does,
// and not a user, both must be of one version. The two share records and options.
func Accept() error {
	theirs, ok := os.LookupEnv(caller)
	os.Unsetenv(caller) // not the business of programs that we start
	if ours := release.Build().Version; ok && theirs != ours {
		return fmt.Errorf("%s is %s, %s is %s: %w", Podbox, theirs, Kube, ours, ErrVersion)
	}
	return nil
}
