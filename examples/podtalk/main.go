//go:build linux

// Podtalk is both halves of every conversation that the members of a pod can
// have: over TCP, UDP and Unix sockets, message queues, shared memory and
// semaphores, POSIX and System V, and by a file in a volume. Run one half in each of
// two members; if both exit with status 0, the two share what the conversation
// needs.
//
//	podbox exec web -- podtalk tcp-serve 127.0.0.1:8080 &
//	podbox exec web -- podtalk tcp-dial 127.0.0.1:8080 hello
//
// It is one static file, and all that a container which runs it needs to have as its
// root: see podbox run --rootfs.
//
// The halves may be started in either order: whoever comes first waits for the
// other, and both give up after -timeout, so that none is left behind. A server
// answers with its process ID and what it heard, which the client checks. The
// half that receives through an IPC object removes it once it has received,
// unless it is told to -keep it, so that a finished conversation leaves nothing; a
// file that is not in /dev/shm stays in any case.
//
// The exit status is 0 if the conversation took place, 1 if it did not, and 2
// if the command line made no sense.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// maxMessage is the largest message in bytes: what the kernel lets through a
// message queue by default, be it POSIX (fs.mqueue.msgsize_max) or System V
// (kernel.msgmax).
const maxMessage = 8192

// A session is one half of a conversation: its options and where it reports.
type session struct {
	out   io.Writer
	count int  // messages that a server answers; 0 for as many as come in time
	keep  bool // a receiver leaves the IPC object in place
}

// A command is one half of one kind of conversation.
type command struct {
	name string
	flag string // its flag besides -timeout, if it has one: -count or -keep
	args string // what it takes, all of it required
	help string
	run  func(ctx context.Context, s *session, args []string) error
}

var commands = []command{
	{
		"tcp-serve", "count", "ADDR", "answer on a TCP address",
		func(ctx context.Context, s *session, args []string) error { return s.serveStream(ctx, "tcp", args[0]) },
	},
	{
		"tcp-dial", "", "ADDR MESSAGE", "say MESSAGE there and print the answer",
		func(ctx context.Context, s *session, args []string) error {
			return s.dial(ctx, "tcp", args[0], args[1])
		},
	},
	{
		"udp-serve", "count", "ADDR", "answer on a UDP address",
		func(ctx context.Context, s *session, args []string) error { return s.servePacket(ctx, "udp", args[0]) },
	},
	{
		"udp-dial", "", "ADDR MESSAGE", "say MESSAGE there and print the answer",
		func(ctx context.Context, s *session, args []string) error {
			return s.dial(ctx, "udp", args[0], args[1])
		},
	},
	{
		"unix-serve", "count", "ADDR", "answer on a Unix socket: a path, or @name for an abstract one",
		func(ctx context.Context, s *session, args []string) error { return s.serveStream(ctx, "unix", args[0]) },
	},
	{
		"unix-dial", "", "ADDR MESSAGE", "say MESSAGE there and print the answer",
		func(ctx context.Context, s *session, args []string) error {
			return s.dial(ctx, "unix", args[0], args[1])
		},
	},
	{
		"mq-produce", "", "NAME N", "put N random messages and then \"exit\" into a POSIX queue",
		func(ctx context.Context, s *session, args []string) error {
			return s.produce(ctx, posixQueue(args[0]), args[1])
		},
	},
	{
		"mq-consume", "keep", "NAME", "print what comes out of it until \"exit\"",
		func(ctx context.Context, s *session, args []string) error { return s.consume(ctx, posixQueue(args[0])) },
	},
	{
		"sysv-msg-produce", "", "KEY N", "the same with a System V queue",
		func(ctx context.Context, s *session, args []string) error {
			return s.produce(ctx, keyedQueue(args[0]), args[1])
		},
	},
	{
		"sysv-msg-consume", "keep", "KEY", "print what comes out of it until \"exit\"",
		func(ctx context.Context, s *session, args []string) error { return s.consume(ctx, keyedQueue(args[0])) },
	},
	{
		"sysv-msg-send", "", "KEY MESSAGE", "put MESSAGE into a System V queue",
		func(ctx context.Context, s *session, args []string) error { return s.sendMsg(ctx, args[0], args[1]) },
	},
	{
		"sysv-msg-recv", "keep", "KEY", "print the next message in it",
		func(ctx context.Context, s *session, args []string) error { return s.recvMsg(ctx, args[0]) },
	},
	{
		"sysv-shm-write", "", "KEY TEXT", "make a System V segment that holds TEXT",
		func(ctx context.Context, s *session, args []string) error {
			return s.writeSegment(ctx, args[0], args[1])
		},
	},
	{
		"sysv-shm-read", "keep", "KEY", "print the text in it",
		func(ctx context.Context, s *session, args []string) error { return s.readSegment(ctx, args[0]) },
	},
	{
		"sysv-sem-wait", "keep", "KEY", "wait for a System V semaphore to be posted",
		func(ctx context.Context, s *session, args []string) error { return s.waitSem(ctx, args[0]) },
	},
	{
		"sysv-sem-post", "", "KEY", "post it",
		func(ctx context.Context, s *session, args []string) error { return s.postSem(ctx, args[0]) },
	},
	{
		"shm-write", "", "NAME TEXT", "make a file in /dev/shm that holds TEXT",
		func(_ context.Context, _ *session, args []string) error { return writeShm(args[0], args[1]) },
	},
	{
		"shm-read", "keep", "NAME", "print the text in it",
		func(ctx context.Context, s *session, args []string) error { return s.readShm(ctx, args[0]) },
	},
	{
		"sem-wait", "keep", "NAME", "wait for a POSIX semaphore to be posted",
		func(ctx context.Context, s *session, args []string) error { return s.waitSemaphore(ctx, args[0]) },
	},
	{
		"sem-post", "", "NAME", "post it",
		func(_ context.Context, s *session, args []string) error { return s.postSemaphore(args[0]) },
	},
	{
		"file-write", "", "PATH TEXT", "make a file that holds TEXT",
		func(_ context.Context, _ *session, args []string) error { return writeFile(args[0], args[1]) },
	},
	{
		"file-read", "", "PATH", "print the text in it",
		func(ctx context.Context, s *session, args []string) error { return s.readFile(ctx, args[0]) },
	},
	{
		"addresses", "", "", "print the host name, and the MAC and IP addresses that are not loopback",
		func(_ context.Context, s *session, _ []string) error { return s.addresses() },
	},
}

func main() {
	// As PID 1 of a container the program would be deaf to an unhandled SIGTERM.
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	status := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}

// run carries out one command line and returns its exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		usage(stderr)
		return 2
	}
	if args[0] == "help" || args[0] == "-h" || args[0] == "-help" || args[0] == "--help" {
		usage(stdout)
		return 0
	}
	i := slices.IndexFunc(commands, func(c command) bool { return c.name == args[0] })
	if i < 0 {
		fmt.Fprintf(stderr, "podtalk: unknown command %q (see podtalk help)\n", args[0])
		return 2
	}
	cmd := commands[i]

	s := session{out: stdout}
	flags := flag.NewFlagSet(cmd.name, flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() { fmt.Fprintf(stderr, "usage: podtalk %s\n", cmd.synopsis()) }
	timeout := flags.Duration("timeout", 10*time.Second, "")
	switch cmd.flag {
	case "count":
		flags.IntVar(&s.count, "count", 1, "")
	case "keep":
		flags.BoolVar(&s.keep, "keep", false, "")
	}
	switch err := flags.Parse(args[1:]); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	}
	if flags.NArg() != len(strings.Fields(cmd.args)) || *timeout <= 0 || s.count < 0 {
		flags.Usage()
		return 2
	}

	ctx, cancel := context.WithTimeoutCause(ctx, *timeout, fmt.Errorf("gave up after %v", *timeout))
	defer cancel()
	if err := cmd.run(ctx, &s, flags.Args()); err != nil {
		fmt.Fprintf(stderr, "podtalk: %s %s: %v\n", cmd.name, flags.Arg(0), err)
		return 1
	}
	return 0
}

// synopsis is how the command is called.
func (c command) synopsis() string {
	switch c.flag {
	case "count":
		return c.name + " [-timeout 10s] [-count 1] " + c.args
	case "keep":
		return c.name + " [-timeout 10s] [-keep] " + c.args
	}
	return c.name + " [-timeout 10s] " + c.args
}

func usage(w io.Writer) {
	fmt.Fprint(w, "Podtalk holds one half of a conversation between two members of a pod.\n\n")
	for _, c := range commands {
		fmt.Fprintf(w, "  podtalk %s\n        %s\n", c.synopsis(), c.help)
	}
	fmt.Fprint(w, `
  -timeout  give up after this long
  -count    messages that a server answers before it stops; 0 for no limit
  -keep     leave the object in place that was read from
`)
}

// retry calls f until it returns nil or an error that time does not cure. When
// ctx ends first, the error tells both what was still amiss and why retry gave up.
func retry(ctx context.Context, f func() error, transient ...error) error {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	var amiss error
	for {
		err := f()
		switch {
		case slices.ContainsFunc(transient, func(t error) bool { return errors.Is(err, t) }):
			amiss = err
		case amiss != nil && errors.Is(err, context.DeadlineExceeded):
			// The end cut a try short, which says nothing of what is amiss.
			<-ctx.Done()
		default:
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (%w)", amiss, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// checkMessage refuses what not every kind of conversation could carry.
func checkMessage(message string) error {
	switch {
	case message == "":
		return errors.New("the message is empty")
	case len(message) > maxMessage:
		return fmt.Errorf("the message has %d bytes, at most %d are carried", len(message), maxMessage)
	}
	return nil
}
