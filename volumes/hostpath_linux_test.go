package volumes

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestHostPath(t *testing.T) {
	sameFDs(t)
	root := t.TempDir()
	ok(t, os.Mkdir(root+"/dir", 0o700))
	ok(t, os.WriteFile(root+"/file", nil, 0o600))
	ok(t, unix.Mkfifo(root+"/fifo", 0o600))
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	ok(t, err)
	defer unix.Close(fd)
	ok(t, os.Symlink(root, "/tmp/volumes-test-"+strconv.Itoa(os.Getpid())))
	short := "/tmp/volumes-test-" + strconv.Itoa(os.Getpid()) // sun_path is short
	defer os.Remove(short)
	ok(t, unix.Bind(fd, &unix.SockaddrUnix{Name: short + "/socket"}))
	for link, target := range map[string]string{"to-dir": "dir", "to-null": "/dev/null", "to-none": "none", "to-file": "../" + filepath.Base(root) + "/file"} {
		ok(t, os.Symlink(target, root+"/"+link))
	}
	found := map[string]uint32{
		"dir": unix.S_IFDIR, "to-dir": unix.S_IFDIR, "file": unix.S_IFREG, "to-file": unix.S_IFREG,
		"fifo": unix.S_IFIFO, "socket": unix.S_IFSOCK, "to-null": unix.S_IFCHR, "dir/": unix.S_IFDIR,
	}
	for name, is := range found {
		for typ, want := range map[PathType]uint32{
			PathAny: is, PathDirectory: unix.S_IFDIR, PathDirectoryOrCreate: unix.S_IFDIR, PathFile: unix.S_IFREG,
			PathFileOrCreate: unix.S_IFREG, PathSocket: unix.S_IFSOCK, PathCharDevice: unix.S_IFCHR, PathBlockDevice: unix.S_IFBLK,
		} {
			f, err := HostPath{Path: root + "/" + name, Type: typ}.Open()
			if is != want {
				if !errors.Is(err, ErrWrongType) || !strings.Contains(err.Error(), "want a "+typeName(want)+", found a "+typeName(is)) {
					t.Errorf("%s as %s: %v, %v", name, typ, f, err)
				}
				continue
			}
			if err != nil {
				t.Errorf("%s as %s: %v", name, typ, err)
				continue
			}
			if st := stat(t, f); st.Mode&unix.S_IFMT != want {
				t.Errorf("%s as %s: opened mode %o", name, typ, st.Mode)
			}
			f.Close()
		}
	}
	before := list(t, root)
	for _, typ := range []PathType{PathAny, PathDirectory, PathFile, PathSocket, PathCharDevice, PathBlockDevice} {
		if f, err := (HostPath{Path: root + "/none", Type: typ}).Open(); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("nothing as %s: %v, %v", typ, f, err)
		}
	}
	// Nothing is made where a link happens to point.
	if f, err := (HostPath{Path: root + "/to-none", Type: PathFileOrCreate}).Open(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("file in place of a dangling link: %v, %v", f, err)
	}
	if f, err := (HostPath{Path: "relative"}).Open(); !errors.Is(err, ErrInvalid) {
		t.Errorf("relative: %v, %v", f, err)
	}
	if after := list(t, root); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

func TestHostPathCreate(t *testing.T) {
	root := t.TempDir()
	for _, tt := range []struct {
		path string
		typ  PathType
		mode uint32
		err  error
	}{
		{"a/b/c", PathDirectoryOrCreate, unix.S_IFDIR | 0o755, nil},
		{"d/", PathDirectoryOrCreate, unix.S_IFDIR | 0o755, nil},
		{"a/file", PathFileOrCreate, unix.S_IFREG | 0o644, nil},
		{"none/file", PathFileOrCreate, 0, fs.ErrNotExist},
		{"a/file/c", PathDirectoryOrCreate, 0, unix.ENOTDIR},
	} {
		for range 2 {
			f, err := HostPath{Path: root + "/" + tt.path, Type: tt.typ}.Open()
			if !errors.Is(err, tt.err) {
				t.Errorf("%s: %v", tt.path, err)
			}
			if err == nil {
				if st := stat(t, f); st.Mode != tt.mode {
					t.Errorf("%s: mode %o", tt.path, st.Mode)
				}
				f.Close()
			}
		}
	}
	if info := must[fs.FileInfo](t)(os.Stat(root + "/a/b")); info.Mode().Perm() != 0o755 {
		t.Errorf("parent has mode %s", info.Mode())
	}
}

// What is returned is what was checked, while something else takes its place.
func TestHostPathRace(t *testing.T) {
	sameFDs(t)
	root := t.TempDir()
	ok(t, os.WriteFile(root+"/a", nil, 0o600))
	ok(t, unix.Mkfifo(root+"/b", 0o600))
	stop := exchange(t, root+"/a", root+"/b")
	defer stop()
	var files, others int
	for i := 0; i < 5000 || (files == 0 || others == 0) && i < 100_000; i++ {
		f, err := HostPath{Path: root + "/a", Type: PathFileOrCreate}.Open()
		if errors.Is(err, ErrWrongType) {
			others++
			continue
		}
		ok(t, err)
		if st := stat(t, f); st.Mode&unix.S_IFMT != unix.S_IFREG {
			t.Fatalf("a FIFO was returned as a file: %o", st.Mode)
		}
		f.Close()
		files++
	}
	if files == 0 || others == 0 {
		t.Errorf("no race: %d files, %d others", files, others)
	}
}

// exchange lets two names change places all the time, until it is told to stop.
func exchange(t testing.TB, a, b string) (stop func()) {
	t.Helper()
	done, stopped := make(chan struct{}), make(chan error)
	go func() {
		for {
			select {
			case <-done:
				stopped <- nil
				return
			default:
			}
			if err := unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE); err != nil {
				<-done
				stopped <- err
				return
			}
		}
	}()
	return func() {
		close(done)
		if err := <-stopped; err != nil {
			t.Errorf("exchange: %v", err)
		}
	}
}

func inode(t testing.TB, path string) uint64 {
	t.Helper()
	return must[fs.FileInfo](t)(os.Stat(path)).Sys().(*syscall.Stat_t).Ino
}
