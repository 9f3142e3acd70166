package crilog

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"syscall"
)

// A Writer may rotate while its files are looked for by their names. It moves files
// to higher numbers only, an older one before a newer: as long as a file has not
// moved, what is newer is below it. So each file is found from the one before, and
// counts if that is still where it was.

// attempts bounds how often a file is looked for. It takes several only if there are
// rotations meanwhile.
const attempts = 100

// collect opens the files of a log that are newer than known, or all if that is nil,
// and returns them from the oldest to the newest.
func collect(path string, known *os.File) ([]*os.File, error) {
	var files []*os.File
	find := func() (*os.File, int, error) { return next(path, known, 0) }
	if known == nil {
		find = func() (*os.File, int, error) { return oldest(path) }
	}
	f, n, err := find()
	for f != nil {
		files = append(files, f)
		f, n, err = next(path, f, n)
	}
	if err != nil {
		closeAll(files)
		return nil, err
	}
	return files, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// next opens the file that was begun after known, whose number is at least from, and
// returns it with its number, or nil if there is none.
func next(path string, known *os.File, from int) (*os.File, int, error) {
	for range attempts {
		k, err := locate(path, known, from)
		if err != nil {
			return nil, 0, err
		}
		if k < 0 {
			if isGone(known) {
				break
			}
			continue
		}
		f, n, err := below(path, k)
		if f == nil {
			return nil, 0, err
		}
		// In this order: known bounds how far others can have moved.
		if !anyBetween(path, n, k) && isAt(known, path, k) {
			return f, n, nil
		}
		f.Close()
	}
	// It was the oldest when it was removed, or it was removed by somebody else.
	// Then times of modification tell what is newer.
	f, n, err := oldest(path)
	for f != nil && isOlder(f, known) {
		older := f
		f, n, err = next(path, older, n)
		older.Close()
	}
	return f, n, err
}

// oldest opens the file with the highest number.
func oldest(path string) (*os.File, int, error) {
	for range attempts {
		found, err := numbers(path)
		if err != nil {
			return nil, 0, err
		}
		n := slices.Max(append(found, 0))
		f, _, err := below(path, n+1)
		if err != nil {
			return nil, 0, err
		}
		// A directory that changes is not read reliably, and one number may be
		// missing.
		if f != nil && isAt(f, path, n) && !anyBetween(path, n, n+3) {
			return f, n, nil
		}
		if f != nil {
			f.Close()
		}
	}
	return nil, 0, nil
}

// locate returns the number of f, or a negative one if it is not found.
func locate(path string, f *os.File, from int) (int, error) {
	if isAt(f, path, from) {
		return from, nil
	}
	found, err := numbers(path)
	if err != nil {
		return 0, err
	}
	for n := from; n <= slices.Max(append(found, 0)); n++ {
		if isAt(f, path, n) {
			return n, nil
		}
	}
	return -1, nil
}

// below opens the file with the highest number below n, or returns nil.
func below(path string, n int) (*os.File, int, error) {
	for n--; n >= 0; n-- {
		f, err := os.Open(numbered(path, n))
		if err == nil {
			return f, n, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, 0, err
		}
	}
	return nil, 0, nil
}

// anyBetween reports whether there is a file with a number between two.
func anyBetween(path string, low, high int) bool {
	for n := low + 1; n < high; n++ {
		if exists(numbered(path, n)) {
			return true
		}
	}
	return false
}

func isAt(f *os.File, path string, n int) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Stat(numbered(path, n))
	return err == nil && os.SameFile(a, b)
}

// isGone reports whether a file has no name any more.
func isGone(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Sys().(*syscall.Stat_t).Nlink == 0
}

// isOlder reports whether f was written last before g was.
func isOlder(f, g *os.File) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := g.Stat()
	return err == nil && a.ModTime().Before(b.ModTime())
}
