package proc

import (
	"context"
	"errors"
	"fmt"
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

// Who has killed a process finds it gone, however busy the machine is: at the second look
// at the latest, for it may die in the midst of the first.
func TestOpenKilled(t *testing.T) {
	for range 50 {
		cmd := exec.Command("sleep", "1000")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		f, err := OpenPID(cmd.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		id, err := Identify(cmd.Process.Pid, f)
		if err == nil {
			err = Signal(f, unix.SIGKILL)
		}
		if err != nil {
			t.Fatal(err)
		}
		if again, err := id.Open(); err == nil {
			again.Close()
		}
		if again, err := id.Open(); !errors.Is(err, ErrGone) {
			again.Close()
			t.Errorf("killed: %v", err)
		}
		f.Close()
		cmd.Wait()
	}
}

func TestDying(t *testing.T) {
	const line = "7 (a) b) %s 1 7 7 0 -1 %d 0 0 0 0 0 0 0 0 20 0 1 0 500 430080 0 0 1 2 3 0 0 %d 0 16386 65536 0 0 0 17"
	for _, test := range []struct {
		state          string
		flags, pending int
		want           bool
	}{
		{"S", 0x400100, 0, false},
		{"T", 0x400100, 1 << (unix.SIGTERM - 1), false},
		{"R", 0x400100, 1 << (unix.SIGKILL - 1), true}, // waits for a CPU
		{"R", 0x400500, 0, true},
		{"D", 0x40050c, 0, true},
		{"Z", 0x40850c, 0, false}, // if it has not ended it has other threads
	} {
		fields, err := parseStat(fmt.Appendf(nil, line, test.state, test.flags, test.pending))
		if err != nil {
			t.Fatal(err)
		}
		if got := dying(fields); got != test.want || start(fields) != 500 {
			t.Errorf("%+v: %v", test, got)
		}
	}
}

// One that does not run has not ended.
func TestOpenStopped(t *testing.T) {
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	f, err := OpenPID(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	id, err := Identify(cmd.Process.Pid, f)
	if err := errors.Join(err, Signal(f, unix.SIGSTOP), Signal(f, unix.SIGTERM)); err != nil {
		t.Fatal(err)
	}
	again, err := id.Open()
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}
