package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/cyphar/filepath-securejoin/pathrs-lite"
	"github.com/moby/sys/user"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// lookUpUser finds a user of the host with all groups.
func lookUpUser(name string, u *specs.User) (home string, err error) {
	found, err := user.GetExecUserPath(name, &user.ExecUser{Home: "/"}, "/etc/passwd", "/etc/group")
	if err != nil {
		return "", fmt.Errorf("--user %q: %w", name, err)
	}
	setUser(u, found)
	return found.Home, nil
}

// lookUpIn finds a user in a root directory, of which nothing is trusted.
func lookUpIn(root, name string, u *specs.User) (home string, err error) {
	passwd, err := readUntrusted(root, "/etc/passwd")
	if err != nil {
		return "", fmt.Errorf("--user %q: %w", name, err)
	}
	group, err := readUntrusted(root, "/etc/group")
	if err != nil {
		return "", fmt.Errorf("--user %q: %w", name, err)
	}
	found, err := user.GetExecUser(name, &user.ExecUser{Home: "/"}, bytes.NewReader(passwd), bytes.NewReader(group))
	if err != nil {
		return "", fmt.Errorf("--user %q: %w", name, err)
	}
	setUser(u, found)
	return found.Home, nil
}

func setUser(u *specs.User, found *user.ExecUser) {
	u.UID, u.GID = uint32(found.Uid), uint32(found.Gid)
	for _, g := range found.Sgids {
		u.AdditionalGids = append(u.AdditionalGids, uint32(g))
	}
}

// maxUntrusted bounds what is read of a root directory, in bytes.
const maxUntrusted = 4 << 20

// readUntrusted reads a file in a root directory as a program there would; nothing if
// it is not there. It may be anything: a link to somewhere, a pipe that nobody
// writes, endless.
func readUntrusted(root, unsafePath string) ([]byte, error) {
	handle, err := pathrs.OpenInRoot(root, unsafePath)
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
	f, err := pathrs.Reopen(handle, unix.O_RDONLY)
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
