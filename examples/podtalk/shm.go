//go:build linux

package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// shmPath is where shm_open(3) would keep an object of that name.
func shmPath(name string) (string, error) {
	bare := strings.TrimPrefix(name, "/")
	if bare == "" || bare == "." || bare == ".." || strings.ContainsAny(bare, "/\x00") {
		return "", fmt.Errorf("%q is not the name of a shared memory object", name)
	}
	return filepath.Join("/dev/shm", bare), nil
}

// writeShm makes the object whole or not at all: a reader that is already
// waiting never sees half of the text.
func writeShm(name, text string) error {
	path, err := shmPath(name)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".podtalk-*")
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

// readShm prints the text in the object and removes it. It waits for the object.
func (s *session) readShm(ctx context.Context, name string) error {
	path, err := shmPath(name)
	if err != nil {
		return err
	}
	var text []byte
	err = retry(ctx, func() (err error) {
		text, err = os.ReadFile(path)
		return err
	}, fs.ErrNotExist)
	if err != nil {
		return err
	}
	fmt.Fprintf(s.out, "%s\n", text)
	if s.keep {
		return nil
	}
	return os.Remove(path)
}
