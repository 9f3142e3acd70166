//go:build linux

// Logclock times how long a container's output takes to its log. The container waits
// to read from a FIFO, and then writes so many bytes, of which the last two, and no
// others, are "!\n". Logclock opens the FIFO and prints the seconds until the log ends
// with these. Then it reads the log, in the format of the CRI, and fails unless all
// that was written is there; of a log that has been rotated, with 0 for the bytes, it
// does not.
//
// usage: logclock FIFO LOG BYTES
package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"time"
)

const (
	patience = 60 * time.Second
	interval = time.Millisecond // how exact it is
)

var end = []byte("!\n")

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "logclock:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 3 {
		return errors.New("want FIFO LOG BYTES")
	}
	path := args[1]
	want, err := strconv.ParseInt(args[2], 10, 64)
	if err != nil {
		return err
	}
	fifo, err := os.OpenFile(args[0], os.O_WRONLY, 0) // waits for the container
	if err != nil {
		return err
	}
	start := time.Now()
	fifo.Close()
	for done := false; !done; {
		if time.Since(start) > patience {
			return fmt.Errorf("%s is not complete after %v", path, patience)
		}
		time.Sleep(interval)
		if done, err = complete(path); err != nil {
			return err
		}
	}
	took := time.Since(start)
	if want != 0 {
		n, err := count(path)
		if err != nil {
			return err
		}
		if n != want {
			return fmt.Errorf("%d bytes are in %s, of %d", n, path, want)
		}
	}
	fmt.Printf("%.4f\n", took.Seconds())
	return nil
}

// complete reports whether a log has its last line. It is opened each time: it may
// have been rotated.
func complete(path string) (bool, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() < int64(len(end)) {
		return false, err
	}
	tail := make([]byte, len(end))
	if _, err := f.ReadAt(tail, info.Size()-int64(len(end))); err != nil && err != io.EOF {
		return false, err
	}
	return bytes.Equal(tail, end), nil
}

// count returns how many bytes a container has written according to its log.
func count(path string) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, 1<<20)
	var n int64
	for {
		line, err := r.ReadSlice('\n')
		if err == io.EOF && len(line) == 0 {
			return n, nil
		}
		if err != nil {
			return n, fmt.Errorf("%s: %w", path, err)
		}
		entry := bytes.SplitN(line, []byte(" "), 4) // time, stream, tag, text
		if len(entry) != 4 {
			return n, fmt.Errorf("%s: not an entry: %.100q", path, line)
		}
		n += int64(len(entry[3]))
		if string(entry[2]) == "P" {
			n-- // the newline is not the container's
		}
	}
}
