package crilog

import (
	"errors"
	"io/fs"
	"os"
	"slices"
)

// collect opens the files of a log that are newer than known, or all if that is nil
// or has been removed, and returns them from the oldest to the newest.
//
// A Writer may rotate at any moment. It moves files to higher numbers only, so who
// looks from the lowest number upwards may find a file twice, but misses none.
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
			break
		}
		if slices.ContainsFunc(files, func(seen *os.File) bool { return same(f, seen) }) {
			f.Close()
			continue
		}
		files = append(files, f)
	}
	slices.Reverse(files)
	return files, nil
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
