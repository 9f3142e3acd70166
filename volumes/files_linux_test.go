package volumes

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/testenv"
)

var (
	oldFiles = Volume{Name: "v", Files: &Files{Entries: []File{
		{Path: "same", Content: []byte("same")},
		{Path: "key", Content: []byte("old")},
		{Path: "gone", Content: []byte("old")},
		{Path: "dir/sub/key", Content: []byte("old")},
		{Path: "dir/gone/key", Content: []byte("old")},
		{Path: "turns", Content: []byte("old")},
		{Path: "turns-too/key", Content: []byte("old")},
	}}}
	newFiles = Volume{Name: "v", Files: &Files{Entries: []File{
		{Path: "turns-too", Content: []byte("new")},
		{Path: "turns/key", Content: []byte("new")},
		{Path: "dir/sub/key", Content: []byte("new")},
		{Path: "dir/added/key", Content: []byte("new")},
		{Path: "added", Content: []byte("new")},
		{Path: "key", Content: []byte("new")},
		{Path: "same", Content: []byte("same")},
	}}}
)

// written returns an open directory that the files of volumes have been written
// to, one volume after the other.
func written(t testing.TB, vs ...Volume) *os.File {
	t.Helper()
	root := openPath(t, tempDir(t))
	for _, v := range vs {
		if changed, err := v.Write(root); !changed || err != nil {
			t.Fatalf("write: %v, %v", changed, err)
		}
	}
	return root
}

// visible returns what a program finds in a volume that does not look at names
// which begin with two dots, nor at links that lead nowhere.
func visible(t testing.TB, root string) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, e := range must[[]os.DirEntry](t)(os.ReadDir(root)) {
		if strings.HasPrefix(e.Name(), "..") {
			continue
		}
		at, err := filepath.EvalSymlinks(root + "/" + e.Name())
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		ok(t, err)
		ok(t, filepath.WalkDir(at, func(p string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				var b []byte
				b, err = os.ReadFile(p)
				found[e.Name()+strings.TrimPrefix(p, at)] = string(b)
			}
			return err
		}))
	}
	return found
}

func contents(v Volume) map[string]string {
	m := map[string]string{}
	for _, e := range v.Files.Entries {
		m[filepath.Clean(e.Path)] = string(e.Content)
	}
	return m
}

func has(t testing.TB, root string, v Volume) bool {
	t.Helper()
	return fmt.Sprint(visible(t, root)) == fmt.Sprint(contents(v))
}

// isClean fails the test unless v is all that there is in root.
func isClean(t testing.TB, root string, v Volume) {
	t.Helper()
	if !has(t, root, v) {
		t.Fatalf("visible: %v, want %v", visible(t, root), contents(v))
	}
	want := append(v.tree()[0].names(), dataLink, must[string](t)(os.Readlink(root+"/"+dataLink)))
	if got := must[[]os.DirEntry](t)(os.ReadDir(root)); len(got) != len(want) {
		t.Fatalf("in the directory: %v, want %v", got, want)
	}
}

func TestWrite(t *testing.T) {
	sameFDs(t)
	v := Volume{Name: "v", Files: &Files{
		DefaultMode: 0o640,
		Entries: []File{
			{Path: "key", Content: []byte("value\n")},
			{Path: "./dir//sub/run", Mode: ptr[uint32](0o755)},
			{Path: "dir/read", Mode: ptr[uint32](0o400), Content: []byte{}},
			{Path: ".hidden/..x", Content: []byte("\x00\xff")},
		},
	}}
	root := written(t, v).Name()
	got := regexp.MustCompile(`\.\.\d{4}_\d\d_\d\d_\d\d_\d\d_\d\d\.\d{9}`).ReplaceAllString(list(t, root), "..VERSION")
	if want := `-r-------- ..VERSION/dir/read ""
-rw-r----- ..VERSION/.hidden/..x "\x00\xff"
-rw-r----- ..VERSION/key "value\n"
-rwxr-xr-x ..VERSION/dir/sub/run ""
Lrwxrwxrwx ..data -> ..VERSION
Lrwxrwxrwx .hidden -> ..data/.hidden
Lrwxrwxrwx dir -> ..data/dir
Lrwxrwxrwx key -> ..data/key
drwxr-xr-x ..VERSION
drwxr-xr-x ..VERSION/.hidden
drwxr-xr-x ..VERSION/dir
drwxr-xr-x ..VERSION/dir/sub`; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestWriteNothing(t *testing.T) {
	v := Volume{Name: "v", Files: &Files{}}
	root := written(t, oldFiles, v)
	isClean(t, root.Name(), v)
	for _, v := range []Volume{{Name: "v"}, {Name: "v", Memory: &Memory{}}, {Name: "V", Files: &Files{}}} {
		if _, err := v.Write(root); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", v, err)
		}
	}
}

func TestWriteOwners(t *testing.T) {
	testenv.NeedRoot(t)
	entries := []File{
		{Path: "plain"},
		{Path: "secret", Mode: ptr[uint32](0o200)},
		{Path: "d/owned", UID: ptr[uint32](1), GID: ptr[uint32](2), Mode: ptr[uint32](0o600)},
	}
	for _, tt := range []struct {
		group *uint32
		want  string
	}{
		{nil, "d 0:0 40755, d/owned 1:2 100600, plain 0:0 100644, secret 0:0 100200"},
		{ptr[uint32](7), "d 0:7 42755, d/owned 1:2 100640, plain 0:7 100644, secret 0:7 100640"},
	} {
		root := written(t, Volume{Name: "v", FSGroup: tt.group, Files: &Files{Entries: entries}})
		var got []string
		for _, name := range []string{"d", "d/owned", "plain", "secret"} {
			var st unix.Stat_t
			ok(t, unix.Stat(root.Name()+"/"+name, &st))
			got = append(got, fmt.Sprintf("%s %d:%d %o", name, st.Uid, st.Gid, st.Mode))
		}
		if got := strings.Join(got, ", "); got != tt.want {
			t.Errorf("got  %s\nwant %s", got, tt.want)
		}
	}
}

func TestWriteUpdate(t *testing.T) {
	sameFDs(t)
	root := written(t, oldFiles).Name()
	isClean(t, root, oldFiles)
	f := openPath(t, root)
	for _, v := range []Volume{newFiles, oldFiles, newFiles} {
		if changed, err := v.Write(f); !changed || err != nil {
			t.Fatal(changed, err)
		}
		isClean(t, root, v)
	}
}

// Nothing is touched if nothing is new; anything that is new is noticed.
func TestWriteAgain(t *testing.T) {
	root := written(t, oldFiles)
	count := 0
	hook := func(string, string) error { count++; return nil }
	write := func(v Volume, want bool) {
		t.Helper()
		if changed, err := v.write(root, hook); changed != want || err != nil {
			t.Errorf("changed: %v, %v, want %v", changed, err, want)
		}
	}
	write(oldFiles, false)
	if count != 0 {
		t.Errorf("%d changes", count)
	}
	edit := func(f func(*Files)) Volume {
		files := *oldFiles.Files
		files.Entries = append([]File(nil), files.Entries...)
		f(&files)
		return Volume{Name: "v", Files: &files}
	}
	for what, v := range map[string]Volume{
		"content":      edit(func(f *Files) { f.Entries[0].Content = []byte("SAME") }),
		"shorter":      edit(func(f *Files) { f.Entries[0].Content = []byte("sam") }),
		"longer":       edit(func(f *Files) { f.Entries[0].Content = []byte("same ") }),
		"mode":         edit(func(f *Files) { f.Entries[0].Mode = ptr[uint32](0o600) }),
		"default mode": edit(func(f *Files) { f.DefaultMode = 0o600 }),
		"added":        edit(func(f *Files) { f.Entries = append(f.Entries, File{Path: "dir/sub/key2"}) }),
		"gone":         edit(func(f *Files) { f.Entries = f.Entries[1:] }),
		"gone below":   edit(func(f *Files) { f.Entries = append(f.Entries[:4], f.Entries[5:]...) }),
		"all gone":     edit(func(f *Files) { f.Entries = nil }),
	} {
		t.Run(what, func(t *testing.T) {
			write(v, true)
			isClean(t, root.Name(), v)
			write(v, false)
			write(oldFiles, true)
			isClean(t, root.Name(), oldFiles)
		})
	}
	// What members should not have been able to change.
	data := root.Name() + "/" + dataLink
	for what, spoil := range map[string]func() error{
		"content": func() error { return os.WriteFile(data+"/key", []byte("OLD"), 0o644) },
		"mode":    func() error { return os.Chmod(data+"/key", 0o777) },
		"dir":     func() error { return os.Chmod(data+"/dir", 0o777) },
		"extra":   func() error { return os.WriteFile(data+"/dir/extra", nil, 0o644) },
		"fifo":    func() error { return errors.Join(os.Remove(data+"/key"), unix.Mkfifo(data+"/key", 0o644)) },
		"link":    func() error { return errors.Join(os.Remove(data+"/key"), os.Symlink("same", data+"/key")) },
		"no dir":  func() error { return os.RemoveAll(data + "/dir") },
	} {
		t.Run("spoilt "+what, func(t *testing.T) {
			ok(t, spoil())
			write(oldFiles, true)
			isClean(t, root.Name(), oldFiles)
		})
	}
	ok(t, os.Remove(root.Name()+"/key"))
	ok(t, os.WriteFile(root.Name()+"/key", nil, 0o644))
	write(oldFiles, false)
	isClean(t, root.Name(), oldFiles)
}

// Whatever somebody with write access has made of the directory, Write does not
// leave it.
func TestWriteHostile(t *testing.T) {
	for what, prepare := range map[string]func(root, victim string) error{
		"data leads out": func(root, victim string) error {
			up, err := filepath.Rel(root, victim)
			return errors.Join(err, os.Symlink(up, root+"/..data"))
		},
		"data is absolute":    func(root, victim string) error { return os.Symlink(victim, root+"/..data") },
		"data is a directory": func(root, _ string) error { return os.MkdirAll(root+"/..data/key/sub", 0o755) },
		"data is a file":      func(root, _ string) error { return os.WriteFile(root+"/..data", nil, 0o644) },
		"data is itself":      func(root, _ string) error { return os.Symlink("..data", root+"/..data") },
		"version leads out": func(root, victim string) error {
			const version = "..2026_02_01_15_04_05.123456789"
			return errors.Join(os.Symlink(victim, root+"/"+version), os.Symlink(version, root+"/..data"))
		},
		"leftovers lead out": func(root, victim string) error {
			return errors.Join(os.Symlink(victim, root+"/..data_tmp"), os.Symlink(victim, root+"/..link_tmp"), os.Symlink(victim, root+"/..x"))
		},
		"names lead out": func(root, victim string) error {
			return errors.Join(os.Symlink(victim, root+"/dir"), os.Symlink(victim+"/file", root+"/key"))
		},
		"files in the way": func(root, _ string) error {
			return errors.Join(os.WriteFile(root+"/dir", nil, 0o644), os.WriteFile(root+"/key", nil, 0o644))
		},
	} {
		t.Run(what, func(t *testing.T) {
			sameFDs(t)
			root, victim := t.TempDir(), t.TempDir()
			ok(t, os.MkdirAll(victim+"/sub/key", 0o755))
			ok(t, os.WriteFile(victim+"/file", []byte("precious"), 0o600))
			before := list(t, victim)
			ok(t, prepare(root, victim))
			for _, v := range []Volume{oldFiles, newFiles} {
				if changed, err := v.Write(openPath(t, root)); !changed || err != nil {
					t.Fatal(changed, err)
				}
				isClean(t, root, v)
			}
			if after := list(t, victim); after != before {
				t.Errorf("victim before:\n%s\nafter:\n%s", before, after)
			}
		})
	}

	// A directory of a stranger's is not removed, and neither is a link of which
	// nothing is known.
	root := t.TempDir()
	ok(t, os.Mkdir(root+"/key", 0o755))
	ok(t, os.Symlink("/", root+"/theirs"))
	if changed, err := oldFiles.Write(openPath(t, root)); changed || !errors.Is(err, unix.EISDIR) {
		t.Errorf("directory in the way: %v, %v", changed, err)
	}
	if got := list(t, root); got != "Lrwxrwxrwx theirs -> /\ndrwxr-xr-x key" {
		t.Errorf("left:\n%s", got)
	}
}
