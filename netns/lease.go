package netns

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/podbox/podbox/internal/flock"
)

// Leases keeps who has which address, as one symbolic link per address in a
// directory: making the link is taking the address, atomically, and its target
// names the owner. A lease whose owner is not alive is free.
type Leases struct {
	// Dir is the directory. It is made when the first address is taken.
	Dir string
	// Alive reports whether an owner exists, in whatever state.
	Alive func(owner string) bool
}

// Acquire takes the next free address of r for owner: the one after the address
// taken last, so that an address just given back rests for as long as possible.
// An address for which check returns ErrInUse is passed over; another error of
// check ends the search. The first address, the second (by habit a gateway's)
// and, in IPv4, the last one are never given.
func (l *Leases) Acquire(ctx context.Context, r netip.Prefix, owner string, check func(netip.Addr) error) (netip.Addr, error) {
	if err := os.MkdirAll(l.Dir, 0o700); err != nil {
		return netip.Addr{}, err
	}
	cursor, err := openCursor(l.Dir, r)
	if err != nil {
		return netip.Addr{}, err
	}
	defer cursor.Close()

	size := hosts(r)
	limit := size
	last := cursor.last()
	for tried := uint64(0); tried < limit; tried++ {
		if err := ctx.Err(); err != nil {
			return netip.Addr{}, err
		}
		last = last%size + 1
		addr := nth(r, last+1)
		switch err := l.Claim(ctx, addr, owner); {
		case errors.Is(err, ErrInUse):
			// Among more addresses than there are leases one must be
			// free, or be somebody else's: a bound for large ranges.
			if tried == 64 {
				limit = min(size, tried+uint64(l.count())+1024)
			}
			continue
		case err != nil:
			return netip.Addr{}, err
		}
		err := check(addr)
		if err == nil {
			err = cursor.set(last)
		}
		if err == nil {
			return addr, nil
		}
		if rerr := l.Release(addr, owner); rerr != nil {
			return netip.Addr{}, errors.Join(err, rerr)
		}
		if !errors.Is(err, ErrInUse) {
			return netip.Addr{}, err
		}
	}
	return netip.Addr{}, fmt.Errorf("range %s: %w", r, ErrExhausted)
}

// Claim takes one address for owner, or returns ErrInUse. It may be repeated by
// the same owner.
func (l *Leases) Claim(ctx context.Context, addr netip.Addr, owner string) error {
	if err := os.MkdirAll(l.Dir, 0o700); err != nil {
		return err
	}
	path := l.path(addr)
	err := os.Symlink(owner, path)
	if err == nil || !errors.Is(err, os.ErrExist) {
		return err
	}
	switch has, err := os.Readlink(path); {
	case err == nil && has == owner:
		return nil
	case err == nil && l.Alive(has):
		return fmt.Errorf("%s: %w by pod %.12s", addr, ErrInUse, has)
	}
	return l.takeOver(ctx, addr, owner)
}

// takeOver takes an address whose owner is gone. Of several that try, the lock
// lets one through; the others find its lease.
func (l *Leases) takeOver(ctx context.Context, addr netip.Addr, owner string) error {
	lock, err := flock.Wait(ctx, l.Dir, flock.Exclusive)
	if err != nil {
		return err
	}
	defer lock.Close()
	path := l.path(addr)
	if has, err := os.Readlink(path); err == nil {
		if l.Alive(has) {
			return fmt.Errorf("%s: %w by pod %.12s", addr, ErrInUse, has)
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	err = os.Symlink(owner, path)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("%s: %w", addr, ErrInUse)
	}
	return err
}

// Owner returns who has an address: an error that matches fs.ErrNotExist if nobody has.
func (l *Leases) Owner(addr netip.Addr) (string, error) { return os.Readlink(l.path(addr)) }

// Release gives an address back. It does nothing if owner does not have it.
func (l *Leases) Release(addr netip.Addr, owner string) error {
	if !addr.IsValid() {
		return nil
	}
	path := l.path(addr)
	has, err := os.Readlink(path)
	if errors.Is(err, os.ErrNotExist) || err == nil && has != owner {
		return nil
	}
	if err != nil {
		return err
	}
	return os.Remove(path)
}

// Owned returns the addresses that an owner has. It looks at all leases.
func (l *Leases) Owned(owner string) ([]netip.Addr, error) {
	entries, err := os.ReadDir(l.Dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var owned []netip.Addr
	for _, e := range entries {
		addr, err := netip.ParseAddr(e.Name())
		if err != nil {
			continue
		}
		if has, err := os.Readlink(l.path(addr)); err == nil && has == owner {
			owned = append(owned, addr)
		}
	}
	return owned, nil
}

// Sweep frees the leases whose owners are gone and returns their addresses.
func (l *Leases) Sweep(ctx context.Context) ([]netip.Addr, error) {
	lock, err := flock.Wait(ctx, l.Dir, flock.Exclusive)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	entries, err := os.ReadDir(l.Dir)
	if err != nil {
		return nil, err
	}
	var freed []netip.Addr
	for _, e := range entries {
		addr, err := netip.ParseAddr(e.Name())
		if err != nil {
			continue
		}
		if has, err := os.Readlink(l.path(addr)); err != nil || l.Alive(has) {
			continue
		}
		if err := os.Remove(l.path(addr)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return freed, err
		}
		freed = append(freed, addr)
	}
	return freed, nil
}

func (l *Leases) path(addr netip.Addr) string { return filepath.Join(l.Dir, addr.String()) }

// count returns about how many leases there are.
func (l *Leases) count() int {
	d, err := os.Open(l.Dir)
	if err != nil {
		return 0
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	return len(names)
}

// hosts returns how many addresses of r may be given to pods.
func hosts(r netip.Prefix) uint64 {
	bits := r.Addr().BitLen() - r.Bits()
	if bits > 62 {
		return 1 << 62
	}
	n := uint64(1)<<bits - 2
	if r.Addr().Is4() {
		n-- // broadcast
	}
	return n
}

// nth returns the n-th address of r, the network's own being number 0.
func nth(r netip.Prefix, n uint64) netip.Addr {
	i := new(big.Int).SetBytes(r.Addr().AsSlice())
	i.Add(i, new(big.Int).SetUint64(n))
	b := make([]byte, r.Addr().BitLen()/8)
	a, _ := netip.AddrFromSlice(i.FillBytes(b))
	return a
}

// A cursor remembers which address of a range was taken last. Two processes
// that move it at once may lose a move: they then try an address that is taken,
// and go on.
type cursor struct{ *os.File }

const cursorWidth = 20

func openCursor(dir string, r netip.Prefix) (cursor, error) {
	name := "next-" + strings.ReplaceAll(r.String(), "/", "-")
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR|os.O_CREATE, 0o600)
	return cursor{f}, err
}

func (c cursor) last() uint64 {
	b := make([]byte, cursorWidth)
	n, _ := c.ReadAt(b, 0)
	last, err := strconv.ParseUint(strings.TrimLeft(string(b[:n]), "0"), 10, 62)
	if err != nil {
		return 0
	}
	return last
}

func (c cursor) set(last uint64) error {
	_, err := c.WriteAt(fmt.Appendf(nil, "%0*d", cursorWidth, last), 0)
	return err
}
