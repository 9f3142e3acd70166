//go:build linux

// Soak does to pods, at random and from several sides at once, what users and accidents
// do to them: it creates, stops, starts and removes them, by hand and by Pod YAML, runs
// containers, publishes and forwards ports, changes policies and rates, connects them by CNI
// plugins that fail and hang, flushes the host's nftables, and kills whatever there is to
// kill, podbox itself at any moment. Again and again it lets everybody rest, looks at all of the world that pods can
// have changed, and compares it with a list of what must hold (invariants.go), of which
// each has its reason. At the end all pods are removed, and the world must be as it was.
// Some pods of a second installation stay all the time (residents.go): nothing may happen to
// them, and what keeps them may not grow.
//
// usage: soak [-for 1h] [-seed N] [-procs 4] [-podbox bin/podbox] [-keep DIR] [-hold] [-survey]
//
// It works in network, mount, IPC and PID namespaces of its own, which play a host with a
// network beside it, and with directories of its own; only cgroups are the machine's. What each worker
// does follows from the seed; what is met where, by time, does not. After a fault it
// prints the seed, what is wrong, and the last steps, leaves records, tables and processes as they were
// in DIR, and exits with 1. -hold leaves the world standing until it is interrupted.
//
// It needs root, ip(8), tc(8) and nft(8), and for networks of the usual CNI plugins Debian's
// containernetworking-plugins.
package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	// The same program is the host's first process, a CNI plugin, and what runs in pods.
	if verb := os.Getenv("CNI_COMMAND"); verb != "" && filepath.Base(os.Args[0]) == ledgerName {
		if err := plugin(verb); err != nil {
			fmt.Fprintln(os.Stderr, "soak:", err)
			os.Exit(1)
		}
		return
	}
	if len(os.Args) > 1 && os.Args[1][0] != '-' {
		var err error
		switch os.Args[1] {
		case "first":
			err = first()
		default:
			err = member(os.Args[1:])
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "soak:", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(run())
}

// options are those of the command line.
type options struct {
	length time.Duration
	seed   uint64
	procs  int
	podbox string
	keep   string
	hold   bool
	survey bool
}

func run() int {
	var o options
	flag.DurationVar(&o.length, "for", time.Hour, "how long, before everything is removed")
	flag.Uint64Var(&o.seed, "seed", 0, "what chance follows from; 0: another one each time")
	flag.IntVar(&o.procs, "procs", 4, "how many do something at the same time")
	flag.StringVar(&o.podbox, "podbox", "bin/podbox", "the program")
	flag.StringVar(&o.keep, "keep", "", "the directory for what a fault leaves (default below $TMPDIR)")
	flag.BoolVar(&o.hold, "hold", false, "after a fault leave the world standing until interrupted")
	flag.BoolVar(&o.survey, "survey", false, "go on whatever commands say, and tell at the end what they have said")
	flag.Parse()
	if o.seed == 0 {
		o.seed = rand.Uint64N(1 << 32)
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	if os.Getenv(roomVariable) == "" {
		status, err := enterRoom(ctx, o)
		if err != nil {
			fmt.Fprintln(os.Stderr, "soak:", err)
		}
		return status
	}
	s, err := newSoak(o)
	if err == nil {
		err = s.run(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		if s != nil {
			s.postMortem(err)
			if o.hold && ctx.Err() == nil {
				fmt.Fprintf(os.Stderr, "soak: the world stands: nsenter -t %s -a; interrupt to end it\n", hostPID())
				<-ctx.Done()
			}
		}
		return 1
	}
	return 0
}

// absolute makes the path of the program one that holds in the room.
func (o *options) absolute() error {
	var err error
	o.podbox, err = filepath.Abs(o.podbox)
	if err != nil {
		return err
	}
	if _, err := os.Stat(o.podbox); err != nil {
		return fmt.Errorf("%w (make build)", err)
	}
	if o.keep == "" {
		o.keep = filepath.Join(os.TempDir(), fmt.Sprintf("soak-%d", o.seed))
	}
	o.keep, err = filepath.Abs(o.keep)
	return err
}
