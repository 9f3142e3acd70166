package flock

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestTry(t *testing.T) {
	dir := t.TempDir()
	a, err := Try(dir, Shared)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Try(dir, Shared)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Try(dir, Exclusive); !errors.Is(err, unix.EWOULDBLOCK) {
		t.Errorf("exclusive beside shared: %v", err)
	}
	for range 2 {
		a.Close()
	}
	b.Close()
	c, err := Try(dir, Exclusive)
	if err != nil {
		t.Error(err)
	}
	c.Close()
	if _, err := Try(filepath.Join(dir, "none"), Shared); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing to lock: %v", err)
	}
	var none *Lock
	none.Close()
}

func TestWait(t *testing.T) {
	dir := t.TempDir()
	held, err := Try(dir, Exclusive)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if _, err := Wait(ctx, dir, Shared); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("wait: %v", err)
	}
	// What was locked has gone when the lock is free.
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := Wait(context.Background(), dir, Exclusive); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("lock on a removed directory: %v", err)
		}
	})
	time.Sleep(5 * time.Millisecond)
	os.Remove(dir)
	held.Close()
	wg.Wait()
}

func TestShare(t *testing.T) {
	dir := t.TempDir()
	l, err := Try(dir, Exclusive)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := Try(dir, Shared); !errors.Is(err, unix.EWOULDBLOCK) {
		t.Errorf("shared beside exclusive: %v", err)
	}
	if err := l.Share(); err != nil {
		t.Fatal(err)
	}
	other, err := Try(dir, Shared)
	if err != nil {
		t.Fatalf("shared beside shared: %v", err)
	}
	defer other.Close()
	if _, err := Try(dir, Exclusive); !errors.Is(err, unix.EWOULDBLOCK) {
		t.Errorf("exclusive beside shared: %v", err)
	}
}
