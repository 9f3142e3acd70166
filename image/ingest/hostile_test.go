package ingest

import (
	"archive/tar"
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/podbox/podbox/image"
)

func device(name string, major, minor int64) entry {
	return entry{Header: tar.Header{Typeflag: tar.TypeChar, Name: name, Mode: 0o666, Devmajor: major, Devminor: minor}}
}

// hostile are layers of which nothing may be unpacked, and what their errors say. What
// is outside of the root is called HOST in them.
var hostile = map[string]struct {
	entries []entry
	want    string
}{
	"dotdot":                  {[]entry{file("../evil", "x")}, "it leads out of the root"},
	"dotdot after a name":     {[]entry{file("a/../../evil", "x")}, "it leads out of the root"},
	"absolute link":           {[]entry{link("a", "HOST"), file("a/evil", "x")}, "below a symbolic link that leads out"},
	"relative link":           {[]entry{link("a", "../../.."), file("a/evil", "x")}, "below a symbolic link that leads out"},
	"link to a link":          {[]entry{dir("d"), link("d/a", "../.."), link("b", "d/a"), file("b/evil", "x")}, "below a symbolic link that leads out"},
	"directory becomes link":  {[]entry{dir("a"), file("a/x", "x"), link("a", "HOST"), file("a/evil", "x")}, "below a symbolic link that leads out"},
	"link by another name":    {[]entry{dir("a"), dir("a/b"), file("a/b/x", "x"), link("l", "."), link("l/a", "HOST"), file("a/b/evil", "x")}, "below a symbolic link that leads out"},
	"hard link to a link":     {[]entry{link("l", "HOST"), hardLink("h", "l"), file("h/evil", "x")}, "below a symbolic link that leads out"},
	"links in a circle":       {[]entry{link("a", "b"), link("b", "a"), file("a/evil", "x")}, "leads to itself"},
	"below a file":            {[]entry{file("a", "x"), file("a/evil", "x")}, "below a file that is no directory"},
	"hard link by dotdot":     {[]entry{hardLink("h", "../evil")}, "it leads out of the root"},
	"hard link by a link":     {[]entry{link("a", "HOST"), hardLink("h", "a/secret")}, "below a symbolic link that leads out"},
	"hard link to nothing":    {[]entry{hardLink("h", "nothing")}, "the layer has no such file"},
	"hard link to a dir":      {[]entry{dir("d"), hardLink("h", "d")}, "it is a directory"},
	"root is a link":          {[]entry{link("./", "HOST"), file("evil", "x")}, "the root is not a directory"},
	"root is a file":          {[]entry{device(".", 1, 3)}, "the root is not a directory"},
	"whiteout of nothing":     {[]entry{file(".wh.", "")}, "a whiteout of no file"},
	"whiteout of the root":    {[]entry{file(".wh..", "")}, "a whiteout of no file"},
	"whiteout of the parent":  {[]entry{dir("d"), file("d/.wh...", "")}, "a whiteout of no file"},
	"opaque mark by a link":   {[]entry{link("a", "HOST"), file("a/.wh..wh..opq", "")}, "below a symbolic link that leads out"},
	"whiteout by a link":      {[]entry{link("a", "HOST"), file("a/.wh.secret", "")}, "below a symbolic link that leads out"},
	"whiteout as a device":    {[]entry{device("d", 0, 0)}, "a device that stands for a whiteout"},
	"owner that is no ID":     {[]entry{{Header: tar.Header{Typeflag: tar.TypeReg, Name: "a", Uid: 1<<32 - 1, Format: tar.FormatPAX}}}, "is no ID"},
	"owner beyond IDs":        {[]entry{{Header: tar.Header{Typeflag: tar.TypeReg, Name: "a", Gid: 1 << 40, Format: tar.FormatGNU}}}, "is no ID"},
	"name too long":           {[]entry{file(strings.Repeat("a", 256), "x")}, "longer than 255 bytes"},
	"path too long":           {[]entry{file(strings.Repeat("a/", 2048)+"x", "x")}, "a name of 4097 bytes"},
	"link to too long a path": {[]entry{link("a", strings.Repeat("a", 4096))}, "a symbolic link to no path"},
	"too many entries":        {[]entry{file("a", ""), file("b", ""), file("c", ""), file("d", ""), file("e", ""), file("f", ""), file("g", ""), file("h", ""), file("i", "")}, "more than 8 entries"},
	"too many directories":    {[]entry{file("a/b/c/d/e/f/g/h/i", "")}, "more than 8 entries"},
	"too large":               {[]entry{file("a", strings.Repeat("a", 600)), file("b", strings.Repeat("b", 600))}, "more than 1024 bytes"},
}

func TestHostile(t *testing.T) {
	for name, test := range hostile {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			host := t.TempDir()
			if err := os.WriteFile(filepath.Join(host, "secret"), []byte("secret"), 0o600); err != nil {
				t.Fatal(err)
			}
			entries := append([]entry{file("first", "1")}, test.entries...)
			for i := range entries {
				entries[i].Linkname = strings.ReplaceAll(entries[i].Linkname, "HOST", host)
			}
			_, err := Add(bg, s, imageOf(t, tarOf(t, entries...)), Options{Limits: Limits{Entries: 8, Size: 1024}})
			if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want ErrRefused with %q", err, test.want)
			}
			if found, err := os.ReadDir(host); err != nil || len(found) != 1 {
				t.Errorf("on the host there is %v, %v; want the secret only", found, err)
			}
			nothing(t, s)
		})
	}
}

// nothing fails the test unless a store is empty, and whole.
func nothing(t testing.TB, s *image.Store) {
	t.Helper()
	list, err := s.List()
	if len(list) > 0 || err != nil {
		t.Errorf("images %v, %v; want none", list, err)
	}
	for _, dir := range []string{"layers", "temporary", "building", "images"} {
		entries, err := os.ReadDir(filepath.Join(s.Dir(), dir))
		if err != nil || len(entries) > 0 {
			t.Errorf("%s: %v, %v; want nothing", dir, entries, err)
		}
	}
}

// A layer may have strange things that do no harm.
func TestStrange(t *testing.T) {
	s := newStore(t)
	_, dirs := add(t, s, "strange", tarOf(t,
		dir("/"), dir("usr"), dir("usr/lib"), link("lib", "usr/lib"), file("lib/a", "a"), // by way of a link that stays in the root
		file("./b", "b"), file("//c", "c"), file("d/../e", "e"), // names that are to be cleaned
		device("dev/null", 1, 3), entry{Header: tar.Header{Typeflag: tar.TypeFifo, Name: "pipe", Mode: 0o600}},
		file("twice", "1"), file("twice", "2"), dir("twice"), file("twice/3", "3"), link("twice", "b"),
		file(".wh.f", ""), file("f", "after its whiteout"), file("g", "before its whiteout"), file(".wh.g", ""),
		file(".wh.h", ""), dir("h"), file(".wh..wh.plnk", "of AUFS"), file("h/new", ""),
		link("dangling", "/nowhere"), link("out", "../../../etc/shadow"),
	))
	for name, want := range map[string]string{"usr/lib/a": "a", "b": "b", "c": "c", "e": "e", "f": "after its whiteout", "g": "before its whiteout", "h/new": ""} {
		if b, err := os.ReadFile(filepath.Join(dirs[0], name)); err != nil || string(b) != want {
			t.Errorf("%s: %q, %v; want %q", name, b, err, want)
		}
	}
	if to, err := os.Readlink(dirs[0] + "/twice"); err != nil || to != "b" {
		t.Errorf("twice: link to %q, %v; want b", to, err)
	}
	if _, err := os.Lstat(dirs[0] + "/.wh..wh.plnk"); err == nil {
		t.Error("what AUFS kept its books in is there")
	}
	if got := attribute(t, dirs[0]+"/h", overlayOpaque); got != "y" {
		t.Errorf("a directory in the place of a whiteout is opaque: %q, want y", got)
	}
}

// instead returns what changes a blob to one that has this in it, and its digest.
func instead(content string) func(*blob, []byte) []byte {
	return func(b *blob, _ []byte) []byte {
		b.digest, b.size = digestOf([]byte(content)), int64(len(content))
		return []byte(content)
	}
}

// A layer that is not what it is said to be is not in the store afterwards.
func TestCorrupt(t *testing.T) {
	good := tarOf(t, file("a", strings.Repeat("a", 100_000)))
	for name, change := range map[string]func(b *blob, content []byte) []byte{
		"truncated":         func(_ *blob, b []byte) []byte { return b[:len(b)-100] },
		"truncated at 1":    func(_ *blob, b []byte) []byte { return b[:1] },
		"empty":             func(*blob, []byte) []byte { return nil },
		"longer":            func(_ *blob, b []byte) []byte { return append(bytes.Clone(b), 0) },
		"another byte":      func(_ *blob, b []byte) []byte { b = bytes.Clone(b); b[len(b)/2] ^= 1; return b },
		"another digest":    func(d *blob, b []byte) []byte { d.digest = digestOf(nil); return b },
		"another diff ID":   func(d *blob, b []byte) []byte { d.diffID = digestOf(nil); return b },
		"not a tar":         instead(strings.Repeat("x", 2048)),
		"header of gzip":    instead("\x1f\x8b\x08 and so on"),
		"header of zstd":    instead("\x28\xb5\x2f\xfd and so on"),
		"wants much memory": instead("\x28\xb5\x2f\xfd\x00\xf8\x01\x00\x00"), // a window of 2 TB
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			img := imageOf(t, good)
			layers, err := img.Layers()
			if err != nil {
				t.Fatal(err)
			}
			r, err := layers[0].Compressed()
			if err != nil {
				t.Fatal(err)
			}
			src, err := sourceOf(img)
			if err != nil {
				t.Fatal(err)
			}
			content := readAll(t, r)
			diffIDs, err := image.DiffIDs(src.config)
			if err != nil {
				t.Fatal(err)
			}
			b := &src.blobs[0]
			b.diffID = diffIDs[0]
			content = change(b, content)
			b.open = opener(content)
			src.config = bytes.Replace(src.config, []byte(diffIDs[0]), []byte(b.diffID), 1)
			_, err = src.add(bg, s, Options{}.withDefaults())
			if !errors.Is(err, image.ErrCorrupt) && !errors.Is(err, ErrRefused) {
				t.Errorf("got %v, want ErrCorrupt or ErrRefused", err)
			}
			nothing(t, s)
		})
	}
}
