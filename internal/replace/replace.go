// Package replace writes files whole: whoever reads one finds all of the new contents, or
// all of the old.
package replace

import (
	"errors"
	"os"
)

// Prefix is what the names of files begin with that are being written.
const Prefix = ".new."

// File makes or replaces the file at path, with mode 0600. It is written under another
// name in dir, which is on the same filesystem, and renamed: that name begins with
// [Prefix], and is left behind if the process is killed meanwhile. Nothing is synced, so
// that a machine that loses its power may lose the file.
func File(dir, path string, b []byte) error {
	f, err := os.CreateTemp(dir, Prefix+"*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}
