package cni_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/spawn"
	"github.com/podbox/podbox/internal/testenv"
	"github.com/podbox/podbox/netns/cni"
)

// A directory as administrators have it: what is wrong in one file is no obstacle to the
// network of another, and is told of when one is looked for in vain.
func TestFind(t *testing.T) {
	testenv.NeedRoot(t)
	dir := tempDir(t)
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const plugins = `"plugins":[{"type":"bridge"},{"type":"portmap","capabilities":{"portMappings":true,"x":false}}]`
	write("20-b.conflist", `{"cniVersion":"1.0.0","name":"b",`+plugins+`}`)
	write("10-a.conflist", `{"cniVersion":"0.4.0","name":"a",`+plugins+`}`)
	write("05-single.conf", `{"cniVersion":"0.3.1","name":"single","type":"ptp"}`)
	write("06-again.json", `{"cniVersion":"0.3.1","name":"a","type":"ptp"}`) // lists come first
	write("30-many.conflist", `{"cniVersions":["0.4.0","1.1.0","9.9.9"],"name":"many",`+plugins+`}`)
	write("40-open.conflist", `{"cniVersion":"1.1.0","name":"open"}`)
	write("open/10-x.conf", `{"type":"first"}`)
	write("open/20-y.conf", `{"type":"second"}`)
	write("README", "not one")
	write("50-bad.conflist", `{"name":`)
	write("51-newer.conflist", `{"cniVersion":"2.0.0","name":"newer",`+plugins+`}`)
	write("52-path.conflist", `{"cniVersion":"1.0.0","name":"../b",`+plugins+`}`)
	write("53-type.conflist", `{"cniVersion":"1.0.0","name":"type","plugins":[{"type":"../../bin/sh"}]}`)
	write("54-none.conflist", `{"cniVersion":"1.0.0","name":"none"}`)
	write("55-large.conflist", strings.Repeat(" ", 2<<20))
	write("56-others.conflist", `{"cniVersion":"1.0.0","name":"others",`+plugins+`}`)
	if err := os.Chmod(filepath.Join(dir, "56-others.conflist"), 0o666); err != nil {
		t.Fatal(err)
	}
	write("57-foreign.conflist", `{"cniVersion":"1.0.0","name":"foreign",`+plugins+`}`)
	if err := os.Chown(filepath.Join(dir, "57-foreign.conflist"), 65534, 0); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(filepath.Join(dir, "58-fifo.conflist"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := cni.Driver{ConfDir: dir}
	for name, want := range map[string]string{
		"a": "0.4.0 bridge portmap", "b": "1.0.0 bridge portmap", "single": "0.3.1 ptp",
		"many": "1.1.0 bridge portmap", "open": "1.1.0 first second",
	} {
		n, err := d.Find(name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := n.Version + " " + strings.Join(n.Plugins(), " "); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
		if has := n.Has("portMappings"); has != strings.Contains(want, "portmap") || n.Has("x") {
			t.Errorf("%s: portMappings %v, x %v", name, has, n.Has("x"))
		}
	}
	var missing *cni.NetworkError
	_, err := d.Find("nowhere")
	if !errors.As(err, &missing) || !errors.Is(err, cni.ErrNoNetwork) || strings.Join(missing.Known, " ") != "a b many open single" {
		t.Errorf("nowhere: %v", err)
	}
	for file, want := range map[string]error{
		"50-bad.conflist": cni.ErrInvalid, "51-newer": cni.ErrInvalid, "52-path": cni.ErrInvalid, "53-type": cni.ErrInvalid, "54-none": cni.ErrInvalid,
		"55-large": cni.ErrInvalid, "56-others.conflist: unsafe: others may write": cni.ErrUnsafe, "57-foreign.conflist: unsafe: belongs to user 65534": cni.ErrUnsafe, "58-fifo": cni.ErrInvalid,
	} {
		if err == nil || !strings.Contains(err.Error(), file) || !errors.Is(err, want) {
			t.Errorf("nothing of %s in %v", file, err)
		}
	}
	for _, name := range []string{"", "../b", "a/b", ".", "-a", "a b", strings.Repeat("a", 200)} {
		if _, err := d.Find(name); !errors.Is(err, cni.ErrInvalid) {
			t.Errorf("name %q: %v", name, err)
		}
	}
	if all, err := (cni.Driver{ConfDir: "/nonexistent"}).Networks(); len(all) > 0 || err != nil {
		t.Errorf("no directory: %v, %v", all, err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Find("a"); !errors.Is(err, cni.ErrUnsafe) {
		t.Errorf("a directory for all: %v", err)
	}
}

// A program that is none is an error, and not that of a user's program.
func TestNoProgram(t *testing.T) {
	b := newBed(t, "1.0.0", nil)
	a := b.attachment(t, cni.Request{})
	dir := t.TempDir()
	there := b.PluginDirs
	b.PluginDirs = []string{dir}
	for text, want := range map[string]string{"\x7fELF": "exec format error", "#!/nonexistent\n": "no such file or directory"} {
		if err := os.WriteFile(filepath.Join(dir, "fake"), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
		err := b.Add(context.Background(), a, hostNetns)
		if err == nil || !strings.Contains(err.Error(), "ADD: it cannot be executed: "+want) || errors.Is(err, fs.ErrNotExist) || errors.As(err, new(*spawn.ExecError)) {
			t.Errorf("%q: %v", text, err)
		}
	}
	b.PluginDirs = there
	b.delete(t, a)
}

// One that is just being replaced is tried again.
func TestBusyProgram(t *testing.T) {
	b := newBed(t, "1.0.0", nil)
	a := b.attachment(t, cni.Request{})
	dir := t.TempDir()
	there := b.PluginDirs
	b.PluginDirs = []string{dir}
	path := filepath.Join(dir, "fake")
	const text = "#!/bin/sh\necho '{\"cniVersion\":\"1.0.0\",\"ips\":[{\"address\":\"10.0.0.1/8\"}]}'\n"
	if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(150*time.Millisecond, func() { f.Close() })
	if err := b.Add(context.Background(), a, hostNetns); err != nil || a.Result.Address().IP.String() != "10.0.0.1" {
		t.Errorf("%v, %+v", err, a.Result)
	}
	b.PluginDirs = there
	b.delete(t, a)
}

// A program that anybody may have written is not run.
func TestUnsafePlugin(t *testing.T) {
	b := newBed(t, "1.0.0", nil)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "fake"), []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "fake"), 0o777); err != nil {
		t.Fatal(err)
	}
	n, err := b.Find("seven")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Missing(n); err != nil {
		t.Error(err)
	}
	b.PluginDirs = append([]string{dir}, b.PluginDirs...)
	if err := b.Missing(n); !errors.Is(err, cni.ErrUnsafe) {
		t.Error(err)
	}
	if err := errors.Join(os.Chmod(filepath.Join(dir, "fake"), 0o755), b.Missing(n)); err != nil {
		t.Error(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := b.Missing(n); !errors.Is(err, cni.ErrUnsafe) {
		t.Errorf("a directory for all: %v", err)
	}
}

func TestDriver(t *testing.T) {
	for _, d := range []cni.Driver{{ConfDir: "conf"}, {PluginDirs: []string{"/a:b"}}, {CacheDir: "x"}, {Time: -1}} {
		if err := d.Validate(); !errors.Is(err, cni.ErrInvalid) || d.IsZero() {
			t.Errorf("%+v: %v", d, err)
		}
	}
	if err := (cni.Driver{}).Validate(); err != nil || !(cni.Driver{}).IsZero() {
		t.Error(err)
	}
}
