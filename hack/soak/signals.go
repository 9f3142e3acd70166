//go:build linux

package main

import (
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// notify hands on what asks the program to end.
func notify(c chan<- os.Signal) { signal.Notify(c, unix.SIGINT, unix.SIGTERM) }
