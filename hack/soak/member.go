//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// member is what runs in containers that have nothing but this program for a root.
//
//	answer           tell whoever asks who we are
//	sleep SECONDS    end after that, or by a signal, with 0
//	exit STATUS
//	write FILE       make a file
//	exists FILE...   whether all are there
//	chatter BYTES    print that many in a second
func member(words []string) error {
	verb, args := words[0], words[1:]
	switch {
	case verb == "answer":
		return answer()
	case len(args) == 0:
		return fmt.Errorf("%s: want arguments", verb)
	}
	switch verb {
	case "sleep":
		seconds, err := strconv.ParseFloat(args[0], 64)
		if err != nil {
			return err
		}
		c := make(chan os.Signal, 1)
		signal.Notify(c, unix.SIGTERM)
		select {
		case <-c:
		case <-time.After(time.Duration(seconds * float64(time.Second))):
		}
	case "exit":
		status, err := strconv.Atoi(args[0])
		if err != nil {
			return err
		}
		os.Exit(status)
	case "write":
		return os.WriteFile(args[0], []byte("soak\n"), 0o644)
	case "exists":
		for _, path := range args {
			if _, err := os.Stat(path); err != nil {
				return err
			}
		}
	case "chatter":
		rate, err := strconv.Atoi(args[0])
		if err != nil {
			return err
		}
		line := strings.Repeat("x", 99)
		for range time.Tick(time.Second) {
			for range rate / 100 {
				fmt.Println(line)
			}
		}
	default:
		return errors.New(verb + ": no such verb")
	}
	return nil
}

// memberImage has this program for a root, and an empty directory for what programs want to
// write.
const memberImage = "localhost/soak:1"

func (s *soak) importImage(state, root string) error {
	dir := filepath.Join(s.room, "image")
	if err := os.MkdirAll(filepath.Join(dir, "tmp"), 0o755); err != nil {
		return err
	}
	b, err := os.ReadFile(filepath.Join(s.room, "soak"))
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "soak"), b, 0o755); err != nil {
		return err
	}
	r := s.podboxAt(nil, root, state, "image", "import", "-q", "-c", `ENTRYPOINT ["/soak"]`, dir, memberImage)
	if r.code != 0 {
		return fmt.Errorf("%s: %s", r.line(), r.stderr)
	}
	return nil
}
