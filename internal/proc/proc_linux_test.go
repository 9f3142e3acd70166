package proc

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestIdentity(t *testing.T) {
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	f, err := OpenPID(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	id, err := Identify(cmd.Process.Pid, f)
	if err != nil || id.PID != cmd.Process.Pid || id.Start == 0 || id.Boot == "" {
		t.Fatalf("%+v, %v", id, err)
	}
	again, err := id.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	for _, wrong := range []Identity{
		{},
		{PID: id.PID, Start: id.Start + 1, Boot: id.Boot},
		{PID: id.PID, Start: id.Start, Boot: "another"},
		{PID: -id.PID, Start: id.Start, Boot: id.Boot},
		{PID: 1 << 30, Start: id.Start, Boot: id.Boot},
	} {
		if f, err := wrong.Open(); !errors.Is(err, ErrGone) {
			f.Close()
			t.Errorf("%+v: %v", wrong, err)
		}
	}
	if pids, err := PIDs(); err != nil || !slices.Contains(pids, id.PID) || !slices.Contains(pids, os.Getpid()) {
		t.Errorf("PIDs: %v, %v", pids, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if err := Wait(ctx, again); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("wait: %v", err)
	}
	if err := Signal(again, unix.SIGKILL); err != nil {
		t.Error(err)
	}
	if err := Wait(context.Background(), again); err != nil {
		t.Error(err)
	}
	// It has ended, and is not reaped yet: that is gone, too.
	if f, err := id.Open(); !errors.Is(err, ErrGone) {
		f.Close()
		t.Errorf("a zombie: %v", err)
	}
	Reap(again)
	if err := Signal(again, unix.SIGKILL); !errors.Is(err, ErrGone) {
		t.Errorf("signal: %v", err)
	}
	cmd.Wait()
}
