package crilog

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// interval is how often a log is looked at that cannot be watched: a user has few
// instances of inotify(7), see fs.inotify.max_user_instances.
const interval = 100 * time.Millisecond

// A watch tells when a log may have changed.
type watch struct {
	f    *os.File      // of inotify; nil if there is none to be had
	fd   int           // the same; File.Fd would make it block
	file int           // watch descriptor of the file that is read, or negative
	wake chan struct{} // has one value after events
	done chan struct{} // closed when no more will come
}

func newWatch(path string) (*watch, error) {
	w := &watch{file: -1}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if exhausted(err) {
		return w, nil
	}
	if err != nil {
		return nil, os.NewSyscallError("inotify_init1", err)
	}
	f := os.NewFile(uintptr(fd), "inotify")
	// A new file at path, after a rotation.
	dir := filepath.Dir(path)
	_, err = unix.InotifyAddWatch(fd, dir, unix.IN_CREATE|unix.IN_MOVED_TO|unix.IN_ONLYDIR)
	if err != nil {
		f.Close()
		if exhausted(err) {
			return w, nil
		}
		return nil, &os.PathError{Op: "inotify_add_watch", Path: dir, Err: err}
	}
	w.f, w.fd, w.wake, w.done = f, fd, make(chan struct{}, 1), make(chan struct{})
	go w.receive(f)
	return w, nil
}

// exhausted reports whether an error says that the user has all instances, files
// or watches that one may have.
func exhausted(err error) bool {
	return err == unix.EMFILE || err == unix.ENFILE || err == unix.ENOSPC
}

// receive makes one wake-up of all events at hand. What they are does not matter.
func (w *watch) receive(f *os.File) {
	defer close(w.done)
	buf := make([]byte, 4096)
	for {
		if _, err := f.Read(buf); err != nil {
			return
		}
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
}

func (w *watch) close() {
	if w.f != nil {
		w.f.Close()
		<-w.done
		w.f = nil
	}
}

// wait returns when the log may have changed, of which file is being read, when one
// of done and until is closed, or with the context's error.
func (w *watch) wait(ctx context.Context, file *os.File, done, until <-chan struct{}) error {
	var poll <-chan time.Time
	switch fresh, err := w.watchFile(file); {
	case err != nil:
		return err
	case fresh:
		// Something may have happened before: look first.
		return nil
	case w.f == nil:
		timer := time.NewTimer(interval)
		defer timer.Stop()
		poll = timer.C
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-done:
	case <-until:
	case <-w.wake:
	case <-poll:
	}
	return nil
}

// watchFile watches file, and reports whether that is another one than before. Its
// name does not matter: it may be written further after it was renamed, see shift.
func (w *watch) watchFile(file *os.File) (bool, error) {
	if w.f == nil {
		return false, nil
	}
	wd, err := unix.InotifyAddWatch(w.fd, fmt.Sprintf("/proc/self/fd/%d", file.Fd()), unix.IN_MODIFY|unix.IN_MOVE_SELF)
	switch {
	case exhausted(err), err == unix.ENOENT: // without a /proc
		w.close()
		return true, nil
	case err != nil:
		return false, &os.PathError{Op: "inotify_add_watch", Path: file.Name(), Err: err}
	case wd == w.file:
		return false, nil
	}
	if w.file >= 0 {
		// It fails if the file has been removed.
		_, _ = unix.InotifyRmWatch(w.fd, uint32(w.file))
	}
	w.file = wd
	return true, nil
}
