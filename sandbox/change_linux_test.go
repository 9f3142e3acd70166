package sandbox

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"testing"

	"github.com/podbox/podbox/volumes"
)

// TestUpdateFiles changes volumes of files: one on the disk, and one in memory before and
// after it is there.
func TestUpdateFiles(t *testing.T) {
	rt, _ := newRuntime(t, nil)
	rt.stateDir = t.TempDir()
	files := func(name, content string, memory bool) volumes.Volume {
		return volumes.Volume{Name: name, Files: &volumes.Files{Memory: memory, Entries: []volumes.File{{Path: "f", Content: []byte(content)}}}}
	}
	pod, err := rt.Create(bg, Spec{Name: "files", Volumes: []volumes.Volume{files("disk", "1", false), files("memory", "1", true), {Name: "empty"}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pod.Remove(bg); err != nil {
			t.Error(err)
		}
	})
	read := func(name string) string {
		t.Helper()
		e, err := pod.Enter(bg)
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		m, err := e.Volume(bg, name, "")
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		b, err := os.ReadFile(fmt.Sprintf("/proc/self/fd/%d/f", m.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for _, content := range []string{"2", "3", "3"} {
		if err := pod.UpdateFiles(bg, []volumes.Volume{files("disk", content, false), files("memory", content, true)}); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"disk", "memory"} {
			if got := read(name); got != content {
				t.Errorf("%s: %q, want %q", name, got, content)
			}
		}
	}
	for _, name := range []string{"empty", "absent"} {
		if err := pod.UpdateFiles(bg, []volumes.Volume{files(name, "", false)}); !errors.Is(err, ErrNoVolume) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := pod.UpdateFiles(bg, []volumes.Volume{files("disk", "", true)}); err != nil || read("disk") != "" {
		t.Errorf("where it is, it is not updated: %v", err)
	}
}

func TestDescribe(t *testing.T) {
	rt, _ := newRuntime(t, nil)
	pod, err := rt.Create(bg, Spec{Name: "described", Labels: map[string]string{"a": "b"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pod.Remove(bg); err != nil {
			t.Error(err)
		}
	})
	labels, annotations := map[string]string{"c": "d"}, map[string]string{"e": "f g"}
	if err := pod.Describe(bg, labels, annotations); err != nil {
		t.Fatal(err)
	}
	if err := pod.Describe(bg, map[string]string{"not a key": ""}, nil); !errors.Is(err, ErrInvalid) {
		t.Errorf("a bad label: %v", err)
	}
	info, err := pod.Info()
	if err != nil || !maps.Equal(info.Labels, labels) || !maps.Equal(info.Annotations, annotations) {
		t.Errorf("%v, %v: %v", info.Labels, info.Annotations, err)
	}
}
