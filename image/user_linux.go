package image

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/moby/sys/user"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Process returns what to run of an image for a container: arguments, environment,
// working directory and user, whose name is looked up in the image's files.
func (s *Store) Process(img *Image, o Overrides) (*specs.Process, error) {
	p := &specs.Process{Env: img.Config.Environ(o), Cwd: img.Config.Dir(o)}
	var err error
	if p.Args, err = img.Config.Command(o); err != nil {
		return nil, err
	}
	root, err := s.Mount(img, "", nil)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	name := o.User
	if name == "" {
		name = img.Config.User
	}
	home, err := LookUpUser(root, name, &p.User)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(p.Env, func(e string) bool { return strings.HasPrefix(e, "HOME=") }) {
		p.Env = append(p.Env, "HOME="+home)
	}
	return p, nil
}

// LookUpUser finds a user, USER[:GROUP], in the files of a root directory, of which
// nothing is trusted, and returns the home directory. Without a group those count that
// the user is in. An empty name is root's.
func LookUpUser(root *os.File, name string, u *specs.User) (home string, err error) {
	passwd, err := readUntrusted(root, "/etc/passwd")
	if err != nil {
		return "", fmt.Errorf("user %q: %w", name, err)
	}
	group, err := readUntrusted(root, "/etc/group")
	if err != nil {
		return "", fmt.Errorf("user %q: %w", name, err)
	}
	found, err := user.GetExecUser(name, &user.ExecUser{Home: "/"}, bytes.NewReader(passwd), bytes.NewReader(group))
	if err != nil {
		return "", fmt.Errorf("user %q: %w", name, err)
	}
	u.UID, u.GID = uint32(found.Uid), uint32(found.Gid)
	for _, g := range found.Sgids {
		u.AdditionalGids = append(u.AdditionalGids, uint32(g))
	}
	return found.Home, nil
}

// maxUntrusted bounds what is read of a root directory, in bytes.
const maxUntrusted = 4 << 20

// readUntrusted reads a file in a root directory as a program there would; nothing if
// it is not there. It may be anything: a link to somewhere, a pipe that nobody
// writes, endless.
func readUntrusted(root *os.File, unsafePath string) ([]byte, error) {
	handle, err := openIn(root, unsafePath)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer handle.Close()
	if st, err := handle.Stat(); err != nil || !st.Mode().IsRegular() {
		return nil, errors.Join(err, &os.PathError{Op: "read", Path: unsafePath, Err: errors.New("not a regular file")})
	}
	f, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", handle.Fd()))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxUntrusted+1))
	if len(b) > maxUntrusted {
		err = &os.PathError{Op: "read", Path: unsafePath, Err: unix.EFBIG}
	}
	return b, err
}

// openIn returns an O_PATH handle of what is at a path of a root directory. The path is
// followed by the kernel, and cannot leave the root.
func openIn(root *os.File, unsafePath string) (*os.File, error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	var fd int
	err := error(unix.EAGAIN)
	for n := 0; n < 100 && (err == unix.EAGAIN || err == unix.EINTR); n++ { // something was renamed meanwhile
		fd, err = unix.Openat2(int(root.Fd()), unsafePath, &how)
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: unsafePath, Err: err}
	}
	return os.NewFile(uintptr(fd), unsafePath), nil
}
