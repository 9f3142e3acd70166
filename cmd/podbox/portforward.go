package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/cmd/internal/fdtable"
	"github.com/podbox/podbox/internal/relay"
	"github.com/podbox/podbox/netns"
	"github.com/podbox/podbox/sandbox"
)

func (a *app) portForward() *cobra.Command {
	var addresses []string
	cmd := &cobra.Command{
		Use:   "port-forward [flags] POD [LOCAL-PORT:]PORT...",
		Short: "Pass connections on to ports of a pod, for as long as it runs",
		Long: `Listen at ports of the host and pass connections on to ports of a pod, until
podbox is interrupted. They reach what listens at localhost in the pod: nothing has to
be published, and the pod may have any network. LOCAL-PORT is by default PORT; if it is
0 or empty podbox chooses a free one. TCP only.

The pod may be stopped and started, and its containers may be replaced, meanwhile.
podbox port-forward ends when the pod is removed.`,
		Example: `  podbox port-forward web 8080:80
  podbox port-forward web :5432 9000 --address 127.0.0.1,192.0.2.1`,
		Args:              cobra.MinimumNArgs(2),
		ValidArgsFunction: a.pods(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			fdtable.Grow()
			ips, err := parseAddresses(addresses)
			if err != nil {
				return err
			}
			var forwards []portPair
			for _, w := range args[1:] {
				f, err := parseForward(w)
				if err != nil {
					return err
				}
				forwards = append(forwards, f)
			}
			rt, err := a.Runtime()
			if err != nil {
				return err
			}
			pod, err := rt.Open(args[0])
			if err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), unix.SIGINT, unix.SIGTERM)
			defer stop()
			return forwardPorts(ctx, pod, ips, forwards, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	cmd.Flags().StringSliceVar(&addresses, "address", []string{"localhost"}, "`addresses` of the host to listen at; localhost is 127.0.0.1 and ::1")
	return cmd
}

// A portPair is a port of the host, 0 for any, and one of the pod.
type portPair struct{ local, port uint16 }

// parseForward reads [LOCAL:]PORT.
func parseForward(s string) (portPair, error) {
	wrong := func(want string) (portPair, error) {
		return portPair{}, fmt.Errorf("port %q: %w: %s", s, sandbox.ErrInvalid, want)
	}
	ports, protocol, has := strings.Cut(s, "/")
	switch {
	case has && (protocol == "udp" || protocol == "sctp"):
		return wrong("only tcp is passed on; podbox publish has " + protocol)
	case has && protocol != "tcp":
		return wrong("want protocol tcp")
	}
	const want = "want [LOCAL-PORT:]PORT, of 1 to 65535"
	local, port, found := strings.Cut(ports, ":")
	if !found {
		port = local
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return wrong(want)
	}
	f := portPair{port: uint16(n)}
	if local != "" {
		n, err := strconv.ParseUint(local, 10, 16)
		if err != nil {
			return wrong(want)
		}
		f.local = uint16(n)
	}
	return f, nil
}

// parseAddresses reads what --address is given.
func parseAddresses(words []string) ([]listenAddress, error) {
	var ips []listenAddress
	for _, w := range words {
		if w == "localhost" {
			ips = append(ips,
				listenAddress{netip.AddrFrom4([4]byte{127, 0, 0, 1}), true}, listenAddress{netip.IPv6Loopback(), true})
			continue
		}
		ip, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(w, "["), "]"))
		if err != nil {
			return nil, fmt.Errorf("--address %q: %w: want IP addresses, or localhost", w, sandbox.ErrInvalid)
		}
		ips = append(ips, listenAddress{ip.Unmap(), false})
	}
	return ips, nil
}

// A listenAddress is one to listen at, or to do without if the host has no such address.
type listenAddress struct {
	ip       netip.Addr
	optional bool
}

// forwardPorts listens, says so, and passes connections on until ctx ends or the pod is
// removed.
func forwardPorts(ctx context.Context, pod *sandbox.Sandbox, addrs []listenAddress, forwards []portPair, stdout, stderr io.Writer) error {
	i, err := pod.Info()
	if err != nil {
		return err
	}
	if i.PausePID == 0 {
		return fmt.Errorf("forward ports of %v: %w: its state is %s", pod, sandbox.ErrNotRunning, i.State)
	}
	var all [][]net.Listener // of each forward
	defer func() {
		for _, l := range slices.Concat(all...) {
			l.Close()
		}
	}()
	for _, f := range forwards {
		if err := unpublished(ctx, pod.Runtime(), addrs, f.local); err != nil {
			return fmt.Errorf("forward ports of %v: %w", pod, err)
		}
		ls, err := listenAll(addrs, f.local)
		all = append(all, ls)
		if err != nil {
			return fmt.Errorf("forward ports of %v: %w", pod, err)
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var mu sync.Mutex // of stderr
	say := func(err error) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(stderr, "podbox: %v\n", err)
	}
	var relays []*relay.Relay
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for n, f := range forwards {
		r := &relay.Relay{Dial: dialPort(pod, f.port), Failed: say}
		relays = append(relays, r)
		for _, l := range all[n] {
			wg.Go(func() { r.Serve(ctx, l) })
			fmt.Fprintf(stdout, "Forwarding from %s -> %d\n", l.Addr(), f.port)
		}
	}
	return watch(ctx, pod, func() {
		for _, r := range relays {
			r.Drop()
		}
	})
}

// dialTime is how long a program may take to accept: its queue may be full.
const dialTime = 30 * time.Second

// dialsAtOnce is how many may be waited for, for each port: each takes a thread, of which a
// program in Go has 10,000 and then ends.
const dialsAtOnce = 128

func dialPort(pod *sandbox.Sandbox, port uint16) func(context.Context) (net.Conn, error) {
	address := net.JoinHostPort("localhost", strconv.Itoa(int(port)))
	turns := make(chan struct{}, dialsAtOnce)
	return func(ctx context.Context) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, dialTime)
		defer cancel()
		select {
		case turns <- struct{}{}:
			defer func() { <-turns }()
		case <-ctx.Done():
			return nil, fmt.Errorf("dial %s in %v: %w", address, pod, ctx.Err())
		}
		return pod.Dial(ctx, "tcp", address)
	}
}

// watch waits until ctx ends, which is no error, or the pod is removed. Each time that
// it has another network it calls changed: a connection that somebody keeps open although
// nobody is there any more would keep the old one in the kernel.
func watch(ctx context.Context, pod *sandbox.Sandbox, changed func()) error {
	const pause = 500 * time.Millisecond
	last := ""
	for {
		i, err := pod.Info()
		if errors.Is(err, sandbox.ErrNotFound) {
			return err
		}
		now := last
		switch {
		case err != nil: // its record is bad, and may become good
		case i.PausePID != 0:
			// While a connection keeps a network, its number means that one.
			now, _ = os.Readlink(i.Namespaces[string(sandbox.Net)])
		case i.State == sandbox.Stopped:
			now = ""
		}
		if now != last && last != "" {
			changed()
		}
		last = now
		if err == nil && i.PausePID != 0 && pod.Wait(ctx) == nil {
			continue // look why
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

// listenAll listens at all addresses, at the same port. If that is 0 the kernel chooses
// it; one that is free at one address need not be at the next.
func listenAll(addrs []listenAddress, port uint16) ([]net.Listener, error) {
	for try := 1; ; try++ {
		ls, err := listenOnce(addrs, port)
		if port != 0 || try == 10 || !errors.Is(err, unix.EADDRINUSE) {
			return ls, err
		}
		for _, l := range ls {
			l.Close()
		}
	}
}

func listenOnce(addrs []listenAddress, port uint16) (ls []net.Listener, err error) {
	for _, a := range addrs {
		at := netip.AddrPortFrom(a.ip, port)
		network := "tcp4"
		if a.ip.Is6() {
			network = "tcp6"
		}
		l, err := net.Listen(network, at.String())
		switch {
		case err == nil:
			ls = append(ls, l)
			port = uint16(l.Addr().(*net.TCPAddr).Port)
		case a.optional && (errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.EAFNOSUPPORT)):
		case errors.Is(err, unix.EADDRINUSE):
			if who := netns.Unheard(netns.Port{HostIP: a.ip, HostPort: port, Port: port}); who != nil {
				return ls, who
			}
			return ls, err
		default:
			return ls, err
		}
	}
	if len(ls) == 0 {
		return nil, errors.New("no address to listen at")
	}
	return ls, nil
}

// unpublished reports, as a *sandbox.PublishedError, that a pod publishes a port: a
// listener would hear nothing.
func unpublished(ctx context.Context, rt *sandbox.Runtime, addrs []listenAddress, port uint16) error {
	if port == 0 {
		return nil
	}
	infos, _ := rt.List(ctx) // pods whose records are bad publish nothing
	for _, a := range addrs {
		p := netns.Port{HostIP: a.ip, HostPort: port, Port: port}
		for _, i := range infos {
			if slices.ContainsFunc(i.Ports, p.Overlaps) {
				return &sandbox.PublishedError{Port: p, Pod: i.Name}
			}
		}
	}
	return nil
}
