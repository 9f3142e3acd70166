package volumes

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/testenv"
)

// owners returns mode and group of root and all below it, a line each.
func owners(t testing.TB, root string) string {
	t.Helper()
	var lines []string
	ok(t, filepath.WalkDir(root, func(p string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		lines = append(lines, fmt.Sprintf("%s %o %d:%d", strings.TrimPrefix(p[len(root):], "/"), st.Mode&0o7777, st.Uid, st.Gid))
		return nil
	}))
	sort.Strings(lines)
	return strings.Join(lines, "\n")
}

func TestApplyFSGroup(t *testing.T) {
	testenv.NeedRoot(t)
	sameFDs(t)
	const gid = 4711
	outside := t.TempDir()
	ok(t, os.WriteFile(outside+"/secret", nil, 0o600))
	before := owners(t, outside)
	fill := func(t *testing.T) (v Volume, root *os.File, path string) {
		parent := t.TempDir()
		v = Volume{Name: "v", Claim: &Claim{Name: "data.db"}, FSGroup: ptr[uint32](gid)}
		without := v
		without.FSGroup = nil
		root = must[*os.File](t)(without.Make(parent))
		t.Cleanup(func() { root.Close() })
		path = parent + "/data.db"
		ok(t, os.MkdirAll(path+"/d/e", 0o700))
		ok(t, os.Chown(path+"/d/e", 1000, 1000))
		ok(t, os.WriteFile(path+"/d/e/f", nil, 0o400))
		ok(t, os.WriteFile(path+"/suid", nil, 0o755))
		ok(t, unix.Chmod(path+"/suid", 0o4755))
		ok(t, os.Symlink(outside+"/secret", path+"/link"))
		ok(t, os.Symlink(outside, path+"/d/link"))
		ok(t, unix.Mkfifo(path+"/fifo", 0o600))
		return v, root, path
	}
	const done = " 2777 0:4711\nd 2770 0:4711\nd/e 2770 1000:4711\nd/e/f 660 0:4711\nd/link 777 0:4711\nfifo 660 0:4711\nlink 777 0:4711\nsuid 4775 0:4711"

	v, root, path := fill(t)
	ok(t, Volume{Name: "v"}.ApplyFSGroup(t.Context(), root)) // nothing is asked
	asMade := owners(t, path)
	if strings.Contains(asMade, "4711") {
		t.Fatalf("%s", asMade)
	}
	ok(t, v.ApplyFSGroup(t.Context(), root))
	if got := owners(t, path); got != done {
		t.Errorf("got\n%s\nwant\n%s", got, done)
	}
	// What comes later: OnRootMismatch does not look, Always does.
	ok(t, os.WriteFile(path+"/later", nil, 0o600))
	v.FSGroupPolicy = GroupOnRootMismatch
	ok(t, v.ApplyFSGroup(t.Context(), root))
	if got := owners(t, path); !strings.Contains(got, "later 600 0:4711") {
		t.Errorf("OnRootMismatch: %s", got)
	}
	v.FSGroupPolicy = GroupAlways
	ok(t, v.ApplyFSGroup(t.Context(), root))
	if got := owners(t, path); !strings.Contains(got, "later 660 0:4711") {
		t.Errorf("Always: %s", got)
	}

	// OnRootMismatch does all if the root is not as it should be, and the root
	// last: what was interrupted is done again.
	v, root, path = fill(t)
	v.FSGroupPolicy = GroupOnRootMismatch
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := v.ApplyFSGroup(ctx, root); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	ok(t, v.ApplyFSGroup(t.Context(), root))
	if got := owners(t, path); got != done {
		t.Errorf("OnRootMismatch: got\n%s\nwant\n%s", got, done)
	}
	if got := owners(t, outside); got != before {
		t.Errorf("what links point to: %s", got)
	}
}

// TestApplyFSGroupRaces swaps a directory, and a file, for links out of the volume.
func TestApplyFSGroupRaces(t *testing.T) {
	testenv.NeedRoot(t)
	outside, root := tempDir(t), tempDir(t)
	ok(t, os.WriteFile(outside+"/secret", nil, 0o600))
	ok(t, os.Mkdir(root+"/d", 0o755))
	ok(t, os.WriteFile(root+"/d/secret", nil, 0o600))
	ok(t, os.WriteFile(root+"/f", nil, 0o600))
	ok(t, os.Symlink(outside, root+"/d2"))
	ok(t, os.Symlink(outside+"/secret", root+"/f2"))
	before := owners(t, outside)
	stop := make(chan struct{})
	var swaps sync.WaitGroup
	for _, name := range []string{"d", "f"} {
		swaps.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					_ = unix.Renameat2(unix.AT_FDCWD, root+"/"+name, unix.AT_FDCWD, root+"/"+name+"2", unix.RENAME_EXCHANGE)
				}
			}
		})
	}
	f := must[*os.File](t)(os.OpenFile(root, unix.O_PATH|unix.O_DIRECTORY, 0))
	defer f.Close()
	for n := range 3000 {
		v := Volume{Name: "v", Claim: &Claim{Name: "c"}, FSGroup: ptr(uint32(1000 + n))}
		if err := v.ApplyFSGroup(t.Context(), f); err != nil {
			t.Error(err)
			break
		}
	}
	close(stop)
	swaps.Wait()
	if got := owners(t, outside); got != before {
		t.Errorf("outside: %s, was %s", got, before)
	}
}
