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

func writeShm(name, text string) error {
	path, err := shmPath(name)
	if err != nil {
		return err
	}
	return writeFile(path, text)
}

// readShm prints the text in the object and removes it. It waits for the object.
func (s *session) readShm(ctx context.Context, name string) error {
	path, err := shmPath(name)
	if err != nil {
		return err
	}
	if err := s.readFile(ctx, path); err != nil || s.keep {
		return err
	}
	return os.Remove(path)
}

// writeFile makes the file whole or not at all: a reader that is already waiting
// never sees half of the text.
func writeFile(path, text string) error {
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

// readFile prints the text in the file. It waits for the file.
func (s *session) readFile(ctx context.Context, path string) error {
	var text []byte
	err := retry(ctx, func() (err error) {
		text, err = os.ReadFile(path)
		return err
	}, fs.ErrNotExist)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.out, "%s\n", text)
	return err
}
