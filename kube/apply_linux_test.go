package kube

import (
	"os"
	"strings"
	"testing"
	"time"
)

// TestMission runs the three pods of which each shows one way for containers to talk.
func TestMission(t *testing.T) {
	b := newBench(t)
	pods := map[string]map[string]string{
		"shared-volume": {"reader": "Hello from the writer container\n", "writer": ""},
		"message-queue": {"producer": "exit\n", "consumer": "exit\n"},
		"loopback":      {"client": "hello over the loopback", "server": "hello over the loopback"},
	}
	text := func(name string) string {
		b, err := os.ReadFile("../testdata/pods/" + name + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for name := range pods { // they take their time side by side
		if got := b.apply(text(name), ApplyOptions{}); got != "pod/"+name+" created\n" {
			t.Errorf("apply said %q", got)
		}
	}
	for name, logs := range pods {
		t.Run(name, func(t *testing.T) {
			b := *b
			b.T = t
			for c, want := range logs {
				if got := b.logs(name, c); !strings.Contains(got, want) {
					t.Errorf("%s wrote %q, want %q", c, got, want)
				}
			}
			if name == "message-queue" {
				sent, got := b.logs(name, "producer"), b.logs(name, "consumer")
				if sent != got || strings.Count(got, "\n") != 11 {
					t.Errorf("the producer wrote\n%s the consumer\n%s", sent, got)
				}
			}
			if s, err := b.pod(name).Status(); err != nil || s.Phase != "Succeeded" {
				t.Errorf("phase: %+v, %v", s, err)
			}
			if got := b.apply(text(name), ApplyOptions{Wait: time.Second}); got != "pod/"+name+" unchanged\n" {
				t.Errorf("the second apply said %q", got)
			}
		})
	}
}
