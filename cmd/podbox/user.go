package main

import (
	"fmt"
	"os"

	"github.com/moby/sys/user"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/image"
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
	dir, err := os.OpenFile(root, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return "", fmt.Errorf("--user %q: %w", name, err)
	}
	defer dir.Close()
	if home, err = image.LookUpUser(dir, name, u); err != nil {
		return "", fmt.Errorf("--%w", err)
	}
	return home, nil
}

func setUser(u *specs.User, found *user.ExecUser) {
	u.UID, u.GID = uint32(found.Uid), uint32(found.Gid)
	for _, g := range found.Sgids {
		u.AdditionalGids = append(u.AdditionalGids, uint32(g))
	}
}
