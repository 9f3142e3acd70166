package netns

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/podbox/podbox/internal/flock"
)

// Claims keeps who publishes which ports of the host: for each port a directory, in
// it a symbolic link for each address, whose target names the owner.
//
//	DIR/tcp-8080/all          at all addresses
//	DIR/tcp-8080/192.0.2.1    at one
//
// To look at a port takes the same time however many are claimed. A lock on DIR is
// held meanwhile, for addresses that stand for all must be compared with others.
type Claims struct {
	// Dir is the directory. It is made when the first port is claimed.
	Dir string
}

// A ClaimedError says that somebody else publishes a port. It matches ErrInUse.
type ClaimedError struct {
	Port  Port // what was asked for
	Owner string
}

func (e *ClaimedError) Error() string {
	return fmt.Sprintf("port %s: claimed by %.12s", e.Port, e.Owner)
}

// Is makes a ClaimedError match ErrInUse.
func (e *ClaimedError) Is(target error) bool { return target == ErrInUse }

// Claim takes ports for owner, all of them or none; a *ClaimedError if another has
// one. It may be repeated by the same owner.
func (c *Claims) Claim(ctx context.Context, owner string, ports []Port) error {
	for _, p := range ports {
		if p.HostPort == 0 {
			return fmt.Errorf("port %s: %w: no port of the host is chosen", p, ErrInvalid)
		}
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return err
	}
	lock, err := flock.Wait(ctx, c.Dir, flock.Exclusive)
	if err != nil {
		return err
	}
	defer lock.Close()
	for _, p := range ports {
		for i := range p.WithDefaults().Count {
			other, err := c.other(owner, p, i)
			if err != nil {
				return err
			}
			if other != "" {
				return &ClaimedError{p, other}
			}
		}
	}
	for i, p := range ports {
		if err := c.make(owner, p); err != nil {
			return errors.Join(err, c.release(owner, ports[:i+1]))
		}
	}
	return nil
}

// other returns who else than owner has claimed the i-th port of p, at an address that p
// wants too.
func (c *Claims) other(owner string, p Port, i uint16) (string, error) {
	dir := c.portDir(p, i)
	entries, err := os.ReadDir(dir)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return "", err
	}
	for _, e := range entries {
		addr, err := netip.ParseAddr(e.Name())
		if err != nil && e.Name() != allAddresses || !sameHost(p.HostIP, addr) {
			continue
		}
		if has, err := os.Readlink(filepath.Join(dir, e.Name())); err != nil || has != owner {
			return has, err
		}
	}
	return "", nil
}

func (c *Claims) make(owner string, p Port) error {
	for i := range p.WithDefaults().Count {
		if err := os.Mkdir(c.portDir(p, i), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if err := os.Symlink(owner, c.path(p, i)); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// Release gives ports back, as far as owner has them.
func (c *Claims) Release(ctx context.Context, owner string, ports []Port) error {
	lock, err := flock.Wait(ctx, c.Dir, flock.Exclusive)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	return c.release(owner, ports)
}

func (c *Claims) release(owner string, ports []Port) error {
	for _, p := range ports {
		for i := range p.WithDefaults().Count {
			if has, err := os.Readlink(c.path(p, i)); err != nil || has != owner {
				continue
			}
			if err := os.Remove(c.path(p, i)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			_ = os.Remove(c.portDir(p, i)) // unless another address is claimed
		}
	}
	return nil
}

// Has reports whether all of p is claimed by owner.
func (c *Claims) Has(owner string, p Port) bool {
	for i := range p.WithDefaults().Count {
		if has, err := os.Readlink(c.path(p, i)); err != nil || has != owner {
			return false
		}
	}
	return true
}

// Sweep frees the claims of owners that are gone and returns their names.
func (c *Claims) Sweep(ctx context.Context, gone func(owner string) bool) ([]string, error) {
	lock, err := flock.Wait(ctx, c.Dir, flock.Exclusive)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	ports, err := os.ReadDir(c.Dir)
	if err != nil {
		return nil, err
	}
	var freed []string
	for _, port := range ports {
		dir := filepath.Join(c.Dir, port.Name())
		addrs, err := os.ReadDir(dir)
		if err != nil {
			return freed, err
		}
		for _, addr := range addrs {
			path := filepath.Join(dir, addr.Name())
			if owner, err := os.Readlink(path); err != nil || !gone(owner) {
				continue
			}
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return freed, err
			}
			freed = append(freed, port.Name())
		}
		_ = os.Remove(dir) // if it is empty
	}
	return freed, nil
}

// allAddresses is the name of a claim at all addresses of both families.
const allAddresses = "all"

func (c *Claims) portDir(p Port, i uint16) string {
	p = p.WithDefaults()
	return filepath.Join(c.Dir, fmt.Sprintf("%s-%d", p.Protocol, p.HostPort+i))
}

func (c *Claims) path(p Port, i uint16) string {
	name := allAddresses
	if p.HostIP.IsValid() {
		name = p.HostIP.Unmap().String()
	}
	return filepath.Join(c.portDir(p, i), name)
}
