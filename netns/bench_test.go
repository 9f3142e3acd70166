package netns

import (
	"testing"

	"github.com/podbox/podbox/internal/testenv"
)

// BenchmarkConnect wires a namespace; to make it and to remove the link is not
// counted.
func BenchmarkConnect(b *testing.B) { benchmarkLink(b, true) }

// BenchmarkDisconnect removes a link; to wire it is not counted.
func BenchmarkDisconnect(b *testing.B) { benchmarkLink(b, false) }

// benchmarkLink connects and disconnects, and times one of the two.
func benchmarkLink(b *testing.B, connect bool) {
	testenv.NeedRoot(b)
	const link = linkPrefix + "bench"
	timed := func(count bool, f func() error) error {
		if !count {
			b.StopTimer()
			defer b.StartTimer()
		}
		return f()
	}
	host, err := Create()
	if err != nil {
		b.Fatal(err)
	}
	defer host.Close()
	err = host.Do(func() error {
		for b.Loop() {
			var pod *NS
			err := timed(false, func() (err error) {
				pod, err = Create()
				return err
			})
			if err != nil {
				return err
			}
			if err := timed(connect, func() error { return Connect(pod, link, addrA, 1500) }); err != nil {
				return err
			}
			var wait func()
			err = timed(!connect, func() (err error) {
				wait, err = Disconnect(link)
				return err
			})
			if err != nil {
				return err
			}
			_ = timed(false, func() error { wait(); return pod.Close() })
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
}
