package kube

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// Limits of what is read.
const (
	maxFile      = 64 << 20 // bytes
	maxFiles     = 1000
	maxDocument  = 3 << 20 // bytes, as the API server has it
	maxDocuments = 1000    // of all files
)

// A Source is a text that has manifests in it.
type Source struct {
	Name string // what errors call it
	Text []byte
}

// Sources reads files, the *.yaml, *.yml and *.json of directories in the order of their
// names, and for "-" standard input, which may be given once.
func Sources(names []string, stdin io.Reader) ([]Source, error) {
	var sources []Source
	seen := false
	for _, name := range names {
		if name != "-" {
			files, err := expand(name)
			if err != nil {
				return nil, err
			}
			for _, f := range files {
				if len(sources) == maxFiles {
					return nil, fmt.Errorf("%s: %w: want at most %d files", f, ErrInvalid, maxFiles)
				}
				s, err := readFile(f)
				if err != nil {
					return nil, err
				}
				sources = append(sources, s)
			}
			continue
		}
		if seen {
			return nil, fmt.Errorf("standard input: %w: given twice", ErrInvalid)
		}
		seen = true
		s, err := read("standard input", stdin)
		if err != nil {
			return nil, err
		}
		sources = append(sources, s)
	}
	return sources, nil
}

// expand returns the files that a name stands for.
func expand(name string) ([]string, error) {
	st, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !st.IsDir() {
		return []string{name}, nil
	}
	entries, err := os.ReadDir(name) // sorted
	if err != nil {
		return nil, err
	}
	var files []string
	for _, e := range entries {
		if !e.IsDir() && slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(e.Name())) {
			files = append(files, filepath.Join(name, e.Name()))
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%s: %w: no *.yaml, *.yml or *.json in the directory", name, ErrInvalid)
	}
	return files, nil
}

func readFile(name string) (Source, error) {
	f, err := os.Open(name)
	if err != nil {
		return Source{}, err
	}
	defer f.Close()
	return read(name, f)
}

func read(name string, r io.Reader) (Source, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err != nil {
		// The name is in a path's error already.
		if pe := new(fs.PathError); errors.As(err, &pe) {
			return Source{}, err
		}
		return Source{}, fmt.Errorf("read %s: %w", name, err)
	}
	if len(b) > maxFile {
		return Source{}, fmt.Errorf("%s: %w: larger than %d MiB", name, ErrInvalid, maxFile>>20)
	}
	return Source{name, b}, nil
}
