package image

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// content puts files into a layer of a store.
func content(t testing.TB, s *Store, img *Image, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(s.Dirs(img)[len(img.Layers)-1], name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestMount(t *testing.T) {
	s := newStore(t)
	for n, layers := range [][]int{nil, {1}, {1, 2}} {
		img := put(t, s, fmt.Sprint(n), nil, layers...)
		if n > 0 {
			top := s.Dirs(img)[n-1]
			if err := errors.Join(os.Chown(top, 5, 6), os.Chmod(top, 0o750)); err != nil {
				t.Fatal(err)
			}
		}
		for _, dir := range []string{"", t.TempDir()} {
			m, err := s.Mount(img, dir, nil)
			if err != nil {
				t.Fatal(err)
			}
			p := fmt.Sprintf("/proc/self/fd/%d", m.Fd())
			if n > 0 {
				if b, err := os.ReadFile(p + "/file"); err != nil || string(b) != img.Layers[n-1] {
					t.Errorf("%d layers: %q, %v", n, b, err)
				}
				var st unix.Stat_t
				if err := unix.Fstat(int(m.Fd()), &st); err != nil || st.Uid != 5 || st.Gid != 6 || st.Mode != unix.S_IFDIR|0o750 {
					t.Errorf("%d layers: root of %d:%d, %o, %v", n, st.Uid, st.Gid, st.Mode, err)
				}
			}
			var fs unix.Statfs_t
			if err := unix.Fstatfs(int(m.Fd()), &fs); err != nil || fs.Flags&unix.ST_NODEV == 0 || (fs.Flags&unix.ST_RDONLY != 0) != (dir == "") {
				t.Errorf("%d layers, in %q: flags %x, %v", n, dir, fs.Flags, err)
			}
			if err := os.WriteFile(p+"/new", nil, 0o644); (err == nil) != (dir != "") {
				t.Errorf("%d layers, in %q: write: %v", n, dir, err)
			}
			m.Close()
		}
	}
	img := put(t, s, "gone", nil, 3, 4)
	if err := os.RemoveAll(filepath.Dir(s.Dirs(img)[0])); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Mount(img, "", nil); !errors.Is(err, ErrCorrupt) {
		t.Errorf("without a layer: %v, want ErrCorrupt", err)
	}
}

func TestProcess(t *testing.T) {
	s := newStore(t)
	img := put(t, s, "a", nil, 1)
	content(t, s, img, map[string]string{
		"etc/passwd": "root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n", "etc/group": "staff:x:50:ann\n",
	})
	img.Config = Config{Cmd: []string{"cmd"}, User: "ann", WorkingDir: "srv", Env: []string{"A=1"}}
	p, err := s.Process(img, Overrides{})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprintln(p.Args, p.Env, p.Cwd, p.User.UID, p.User.GID, p.User.AdditionalGids), "[cmd] [PATH="+defaultPath+" A=1 HOME=/home/ann] /srv 1000 1000 [50]\n"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	p, err = s.Process(img, Overrides{User: "0:staff", Env: []string{"HOME=/x"}, Args: []string{"a"}})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(p.Args, p.Env[1:], p.User.UID, p.User.GID), "[a] [A=1 HOME=/x] 0 50"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for name, o := range map[string]Overrides{"user": {User: "bob"}, "group": {User: "ann:nogroup"}, "negative": {User: "-1"}, "command": {Entrypoint: []string{}}} {
		if p, err := s.Process(img, o); err == nil {
			t.Errorf("%s: %+v", name, p)
		}
	}
}

// Users are looked up as a program in the root would, in whatever is there.
func TestLookUpUserHostile(t *testing.T) {
	secret := t.TempDir() + "/passwd"
	if err := os.WriteFile(secret, []byte("ann:x:7:7::/:/\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(etc string) error{
		"absolute link": func(etc string) error { return os.Symlink(secret, etc+"/passwd") },
		"link out":      func(etc string) error { return os.Symlink(strings.Repeat("../", 30)+secret, etc+"/passwd") },
		"by proc":       func(etc string) error { return os.Symlink("/proc/self/root"+secret, etc+"/passwd") },
		"pipe":          func(etc string) error { return unix.Mkfifo(etc+"/passwd", 0o644) },
		"directory":     func(etc string) error { return os.Mkdir(etc+"/passwd", 0o755) },
		"endless": func(etc string) error {
			return errors.Join(os.WriteFile(etc+"/passwd", nil, 0o644), os.Truncate(etc+"/passwd", 1<<40))
		},
		"circle": func(etc string) error { return os.Symlink("passwd", etc+"/passwd") },
	} {
		root := t.TempDir()
		if err := os.Mkdir(root+"/etc", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := change(root + "/etc"); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(root)
		if err != nil {
			t.Fatal(err)
		}
		var u specs.User
		if home, err := LookUpUser(f, "ann", &u); err == nil {
			t.Errorf("%s: found %+v, %s", name, u, home)
		}
		f.Close()
	}
}
