package launcher

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/proc"
	"github.com/podbox/podbox/internal/spawn"
)

// newUserNamespace makes a user namespace with these mappings. A child is born in
// it, and lives until it is open here; it ends by itself if we do.
func newUserNamespace(ids idMapping) (*os.File, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer read.Close()
	defer write.Close()
	var p spawn.Program
	var buf [1]byte
	p.Call("close", unix.SYS_CLOSE, write.Fd())
	p.Call("wait", unix.SYS_READ, read.Fd(), spawn.Pointer(&p, &buf), 1)
	child, err := p.Detach(unix.CLONE_NEWUSER)
	if err != nil {
		return nil, fmt.Errorf("new user namespace: %w", err)
	}
	defer func() {
		_ = proc.Signal(child.PidFD, unix.SIGKILL)
		_, _ = await(child.PidFD)
		child.PidFD.Close()
		runtime.KeepAlive(&p)
	}()
	dir := fmt.Sprintf("/proc/%d/", child.PID)
	for file, maps := range map[string][]specs.LinuxIDMapping{"uid_map": ids.uids, "gid_map": ids.gids} {
		if err := os.WriteFile(dir+file, idMap(maps), 0); err != nil {
			if errors.Is(err, unix.EINVAL) {
				err = fmt.Errorf("%w: ranges that overlap, or too many: %w", ErrInvalid, err)
			}
			return nil, fmt.Errorf("map IDs of user namespace: %w", err)
		}
	}
	return os.Open(dir + "ns/user")
}

// idMap is a mapping as user_namespaces(7) has it.
func idMap(maps []specs.LinuxIDMapping) []byte {
	var b strings.Builder
	for _, m := range maps {
		fmt.Fprintf(&b, "%d %d %d\n", m.ContainerID, m.HostID, m.Size)
	}
	return []byte(b.String())
}
