package netns

import "testing"

// Connect and Disconnect of one namespace, as often as asked.
func BenchmarkConnect(b *testing.B) {
	ns, err := Create()
	if err != nil {
		b.Skip(err)
	}
	defer ns.Close()
	err = ns.Do(func() error {
		for b.Loop() {
			b.StopTimer()
			pod, err := Create()
			if err != nil {
				return err
			}
			b.StartTimer()
			if err := Connect(pod, "pbxbench", addrA, 1500); err != nil {
				return err
			}
			b.StopTimer()
			if _, err := Disconnect("pbxbench"); err != nil {
				return err
			}
			pod.Close()
			b.StartTimer()
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
}

func BenchmarkDisconnect(b *testing.B) {
	ns, err := Create()
	if err != nil {
		b.Skip(err)
	}
	defer ns.Close()
	err = ns.Do(func() error {
		for b.Loop() {
			b.StopTimer()
			pod, err := Create()
			if err != nil {
				return err
			}
			if err := Connect(pod, "pbxbench", addrA, 1500); err != nil {
				return err
			}
			b.StartTimer()
			if _, err := Disconnect("pbxbench"); err != nil {
				return err
			}
			b.StopTimer()
			pod.Close()
			b.StartTimer()
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
}
