package volumes

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"sync"
	"testing"
)

// Each change fails in turn, in writing first and in writing anew. The files are
// then as they were or as they shall be, all of them, and the next Write puts all
// in order.
func TestWriteFails(t *testing.T) {
	sameFDs(t)
	nothing := Volume{Name: "v", Files: &Files{}}
	for _, old := range []Volume{nothing, oldFiles} {
		for n := 1; ; n++ {
			root := written(t, old)
			before := must[string](t)(os.Readlink(root.Name() + "/" + dataLink))
			hook, failed := failAt(n)
			changed, err := newFiles.write(root, hook)
			if !failed() {
				ok(t, err)
				if n < 20 {
					t.Errorf("only %d changes", n-1)
				}
				break
			}
			// What was not removed at first may have been afterwards.
			if err != nil && !errors.Is(err, errInjected) || err == nil && !changed {
				t.Errorf("change %d: %v, %v", n, changed, err)
			}
			if err == nil {
				isClean(t, root.Name(), newFiles)
			}
			after := must[string](t)(os.Readlink(root.Name() + "/" + dataLink))
			if changed != (after != before) {
				t.Errorf("change %d: changed %v, but %s is %s", n, changed, before, after)
			}
			if want := map[bool]Volume{false: old, true: newFiles}[changed]; !has(t, root.Name(), want) {
				t.Errorf("change %d: changed %v, visible: %v", n, changed, visible(t, root.Name()))
			}
			if !changed {
				isClean(t, root.Name(), old)
			}
			if _, err := newFiles.Write(root); err != nil {
				t.Errorf("after change %d: %v", n, err)
			}
			isClean(t, root.Name(), newFiles)
		}
	}
}

// The same for a process that is killed.
func TestWriteKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("starts many processes")
	}
	var was, is int
	for n := 1; ; n++ {
		root := written(t, oldFiles)
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d", doEnv, root.Name(), n))
		out, err := cmd.CombinedOutput()
		if err == nil {
			isClean(t, root.Name(), newFiles)
			break
		}
		if cmd.ProcessState.ExitCode() != -1 {
			t.Fatalf("%v: %s", err, out)
		}
		switch {
		case has(t, root.Name(), oldFiles):
			was++
		case has(t, root.Name(), newFiles):
			is++
		default:
			t.Errorf("killed before change %d: visible: %v", n, visible(t, root.Name()))
		}
		if _, err := newFiles.Write(root); err != nil {
			t.Errorf("after change %d: %v", n, err)
		}
		isClean(t, root.Name(), newFiles)
	}
	if was == 0 || is == 0 {
		t.Errorf("%d times as before, %d times new", was, is)
	}
}

// Readers never miss a file, and find one version in what ..data leads to.
func TestWriteReaders(t *testing.T) {
	const size = 100_000
	version := func(i int) Volume {
		content := bytes.Repeat([]byte{'a' + byte(i%26)}, size)
		return Volume{Name: "v", Files: &Files{Entries: []File{
			{Path: "key", Content: content}, {Path: "dir/key", Content: content}, {Path: fmt.Sprint("name-", i), Content: content},
		}}}
	}
	root := written(t, version(0))
	one := func(path string) (byte, error) {
		b, err := os.ReadFile(path)
		if err == nil && (len(b) != size || bytes.Count(b, b[:1]) != size) {
			err = fmt.Errorf("%s: %d bytes, a mixture", path, len(b))
		}
		if err != nil {
			return 0, err
		}
		return b[0], nil
	}
	byName := func() error {
		for _, name := range []string{"/key", "/dir/key", "/..data/key"} {
			if _, err := one(root.Name() + name); err != nil {
				return err
			}
		}
		return nil
	}
	byVersion := func() error {
		target, err := os.Readlink(root.Name() + "/..data")
		if err != nil {
			return err
		}
		a, err := one(root.Name() + "/" + target + "/key")
		if err == nil {
			var b byte
			b, err = one(root.Name() + "/" + target + "/dir/key")
			if err == nil && a != b {
				err = fmt.Errorf("%s: %c and %c", target, a, b)
			}
		}
		if now, _ := os.Readlink(root.Name() + "/..data"); now != target && errors.Is(err, fs.ErrNotExist) {
			return nil // it took longer than an old version stays
		}
		return err
	}
	done := make(chan struct{})
	var readers sync.WaitGroup
	var rounds [2]int
	for i, read := range []func() error{byName, byVersion} {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if err := read(); err != nil {
					t.Error(err)
					return
				}
				rounds[i]++
			}
		})
	}
	for i := range 50 {
		if changed, err := version(i + 1).Write(root); !changed || err != nil {
			t.Error(changed, err)
		}
	}
	close(done)
	readers.Wait()
	if rounds[0] < 50 || rounds[1] < 50 {
		t.Errorf("too few rounds of reading: %v", rounds)
	}
	t.Logf("rounds of reading: %v", rounds)
}

// Every path is refused, or is that of a file in the volume.
func FuzzFilePath(f *testing.F) {
	for _, s := range []string{"a", "a/b", "../a", "a/../../b", "..data", "..data/x", "./..2026_02_01_15_04_05.1", "a//b/.", "/", "a\n", ".", "x/..y", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		outside := tempDir(t)
		ok(t, os.Mkdir(outside+"/v", 0o755))
		root := openPath(t, outside+"/v")
		v := Volume{Name: "v", Files: &Files{Entries: []File{{Path: path, Content: []byte("x")}}}}
		changed, err := v.Write(root)
		if invalid := v.Validate(); invalid != nil {
			if err == nil || changed || list(t, outside+"/v") != "" {
				t.Fatalf("%q: written: %v, %v", path, changed, err)
			}
			return
		}
		ok(t, err)
		isClean(t, outside+"/v", v)
		if entries := must[[]os.DirEntry](t)(os.ReadDir(outside)); len(entries) != 1 {
			t.Fatalf("%q: outside: %v", path, entries)
		}
	})
}

func BenchmarkWrite(b *testing.B) {
	root := written(b, oldFiles)
	b.Run("same", func(b *testing.B) {
		for range b.N {
			if changed, err := oldFiles.Write(root); changed || err != nil {
				b.Fatal(changed, err)
			}
		}
	})
	b.Run("first", func(b *testing.B) {
		for range b.N {
			b.StopTimer()
			root := openPath(b, tempDir(b))
			b.StartTimer()
			if changed, err := newFiles.Write(root); !changed || err != nil {
				b.Fatal(changed, err)
			}
		}
	})
}
