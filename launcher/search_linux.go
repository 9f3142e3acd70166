package launcher

import (
	"path"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/spawn"
)

// DefaultPath is where programs are looked for if their environment has no PATH.
const DefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// candidates are the paths to try for a program, of those where the calling thread
// sees that there is something. An ExecError if there is nothing.
func candidates(s *specs.Process) ([]string, error) {
	if strings.Contains(s.Args[0], "/") {
		return []string{s.Args[0]}, nil
	}
	paths := slices.DeleteFunc(searchPaths(s), func(p string) bool { return unix.Access(p, unix.F_OK) == unix.ENOENT })
	if len(paths) == 0 {
		return nil, &spawn.ExecError{Path: s.Args[0], Err: unix.ENOENT}
	}
	return paths, nil
}

// executable returns the first of paths that the calling thread could execute.
func executable(s *specs.Process) (string, error) {
	paths, err := candidates(s)
	if err != nil {
		return "", err
	}
	for i, p := range paths {
		there := p
		if !path.IsAbs(p) {
			there = path.Join(s.Cwd, p)
		}
		errno, _ := unix.Access(there, unix.X_OK).(unix.Errno)
		if errno == 0 {
			return p, nil
		}
		if errno == unix.ENOTDIR {
			errno = unix.ENOENT // as execvp(3) has it
		}
		if i == 0 {
			err = &spawn.ExecError{Path: p, Err: errno}
		}
	}
	return "", err
}

// searchPaths are the paths at which execvp(3) looks for a program.
func searchPaths(s *specs.Process) []string {
	name := s.Args[0]
	if strings.Contains(name, "/") {
		if !path.IsAbs(name) {
			name = path.Join(s.Cwd, name)
		}
		return []string{name}
	}
	list := DefaultPath
	for _, e := range s.Env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			list = v
		}
	}
	var paths []string
	for dir := range strings.SplitSeq(list, ":") {
		// An empty entry is the working directory.
		p := path.Join(s.Cwd, dir, name)
		if path.IsAbs(dir) {
			p = path.Join(dir, name)
		}
		paths = append(paths, p)
	}
	return paths
}
