package supervisor

import "testing"

// TestStartAfterWait starts a container again as soon as it is known to have ended: who
// has seen that must not be told that it runs.
func TestStartAfterWait(t *testing.T) {
	p := newPod(t)
	spec := shell(newRootfs(t), "exit 3")
	spec.Name = "a"
	c, err := p.RunBackground(bg, spec)
	if err != nil {
		t.Fatal(err)
	}
	for n := range 40 {
		if status, err := c.Wait(bg); status != 3 || err != nil {
			t.Fatalf("status %d, %v", status, err)
		}
		if err := c.Start(bg); err != nil {
			t.Fatalf("after %d starts: %v", n, err)
		}
	}
	if _, err := c.Wait(bg); err != nil {
		t.Error(err)
	}
}
