package crilog

import (
	"errors"
	"io/fs"
	"os"
	"slices"
)

// collect opens the files of a log that are newer than known, or all if that is
// nil, and returns them from the oldest to the newest.
//
// A Writer may rotate at any moment. It moves files to higher numbers only, so who
// looks from the lowest number upwards may find a file twice, but misses none; and
// where it is found last tells its place among the others: what is older is ahead
// of it, and still to be found. If known is not there any more, it was the oldest, or somebody has removed it; then
// times of modification tell what is newer.
func collect(path string, known *os.File) ([]*os.File, error) {
	if known != nil && isAt(known, path) {
		return nil, nil
	}
	rotated, err := numbers(path)
	if err != nil {
		return nil, err
	}
	var files []*os.File
	// Beyond the highest there may be more by now. While a rotation is under way,
	// one number is missing.
	highest := slices.Max(append(rotated, 0))
	for i, missing := 0, 0; i <= highest || missing < 2; i++ {
		f, err := os.Open(numbered(path, i))
		if errors.Is(err, fs.ErrNotExist) {
			missing++
			continue
		}
		if err != nil {
			closeAll(files)
			return nil, err
		}
		missing = 0
		if known != nil && same(f, known) {
			f.Close()
			known = nil
			break
		}
		if n := slices.IndexFunc(files, func(seen *os.File) bool { return same(f, seen) }); n >= 0 {
			f.Close()
			f = files[n]
			files = slices.Delete(files, n, n+1)
		}
		files = append(files, f)
	}
	if known != nil {
		files = slices.DeleteFunc(files, func(f *os.File) bool { return isOlder(f, known) })
	}
	slices.Reverse(files)
	return files, nil
}

// isOlder closes f if it was written last before g was.
func isOlder(f, g *os.File) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := g.Stat()
	if err != nil || !a.ModTime().Before(b.ModTime()) {
		return false
	}
	f.Close()
	return true
}

func isAt(f *os.File, path string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Stat(path)
	return err == nil && os.SameFile(a, b)
}

func same(f, g *os.File) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := g.Stat()
	return err == nil && os.SameFile(a, b)
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
