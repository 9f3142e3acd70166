package crilog

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// numbered returns the path of the i-th file of a log, counted from the one that is
// written.
func numbered(path string, i int) string {
	if i == 0 {
		return path
	}
	return path + "." + strconv.Itoa(i)
}

// numbers returns the numbers of the rotated files that exist, in no order.
func numbers(path string) ([]int, error) {
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var found []int
	for _, name := range names {
		suffix, ok := strings.CutPrefix(name, filepath.Base(path)+".")
		if i, err := strconv.Atoi(suffix); ok && err == nil && i > 0 && suffix == strconv.Itoa(i) {
			found = append(found, i)
		}
	}
	return found, nil
}

// prune removes the rotated files that a rotation would not reach.
func prune(path string, maxFiles int) error {
	found, err := numbers(path)
	if err != nil {
		return err
	}
	for _, i := range found {
		if i < maxFiles {
			continue
		}
		if err := os.Remove(numbered(path, i)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// rotate goes on in a new file, if it can. After an error it goes on in the old
// one, and tries again some time later.
func (w *Writer) rotate(now time.Time) {
	if w.loss.err != nil {
		return
	}
	f, err := w.shift()
	if err != nil {
		w.err, w.wait = err, now.Add(pause)
		return
	}
	w.f.Close()
	w.f, w.size = f, 0
}

// shift gives each file the next number and makes a new one. Files move to higher
// numbers only, one at a time and the highest first, see collect. If no new file can
// be made, what was at path goes on as the first of the rotated files; once there is
// a new one, no other is written any more.
func (w *Writer) shift() (*os.File, error) {
	if exists(w.path) {
		// A number that is missing, after a crash, is used: nothing need go.
		last := 1
		for last < w.maxFiles-1 && exists(numbered(w.path, last)) {
			last++
		}
		for i := last; i > 0; i-- {
			w.op("rename")
			if err := os.Rename(numbered(w.path, i-1), numbered(w.path, i)); err != nil {
				return nil, err
			}
		}
	}
	w.op("create")
	f, err := os.OpenFile(w.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if w.maxFiles == 1 {
		w.op("remove")
		if err := os.Remove(numbered(w.path, 1)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			w.err = err
		}
	}
	return f, nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
