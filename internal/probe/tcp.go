package probe

import (
	"context"
	"net"
	"strconv"
)

// TCPSocket is a check that succeeds if a connection can be made.
type TCPSocket struct {
	// Host is a name or an address. Empty: the pod's.
	Host string `json:"host,omitempty"`
	Port uint16 `json:"port"`
}

// Validate reports what cannot be checked.
func (t TCPSocket) Validate() error { return validatePort(t.Port) }

// Do connects to t.Host, or else to defaultHost, and closes the connection. If the
// check could not be made the error is not nil; it counts as a failure.
func (t TCPSocket) Do(ctx context.Context, defaultHost string) (Outcome, string, error) {
	if err := t.Validate(); err != nil {
		return Failure, "", err
	}
	c, err := dial(ctx, context.Background(), hostPort(t.Host, defaultHost, t.Port))
	if err != nil {
		return Failure, bounded(err.Error()), nil
	}
	// It was there. How it takes the end is not asked.
	c.Close()
	return Success, "", nil
}

func hostPort(host, defaultHost string, port uint16) string {
	if host == "" {
		host = defaultHost
	}
	return net.JoinHostPort(host, strconv.Itoa(int(port)))
}
