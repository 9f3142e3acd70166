package netns

import (
	"github.com/google/nftables"
	"github.com/mdlayher/netlink"

	"github.com/podbox/podbox/internal/spawn"
)

// A transaction is commands for nftables that are done all or not at all.
type transaction struct {
	*nftables.Conn
	socket *netlink.Conn
}

func newTransaction() (*transaction, error) {
	t := new(transaction)
	var err error
	t.Conn, err = nftables.New(nftables.AsLasting(), nftables.WithSockOptions(func(c *netlink.Conn) error {
		t.socket = c
		// Each command is answered, and the answers wait until all have been sent.
		if err := c.SetReadBuffer(maxAnswers); err != nil {
			return err
		}
		return c.SetWriteBuffer(maxBatch)
	}))
	return t, err
}

// maxBatch bounds a transaction, in bytes: some 20,000 pods. maxAnswers bounds the
// answers to it.
const (
	maxBatch   = 16 << 20
	maxAnswers = 4 << 20
)

// close closes the socket. If the transaction has deleted anything the kernel makes
// whoever closes it wait until the memory is free, some 10 ms and more
// (nft_rcv_nl_event); so a child of ours closes it last. wait, if it is not nil,
// returns when that is done.
func (t *transaction) close(deleted bool) (wait func()) {
	defer func() { _ = t.CloseLasting() }()
	if !deleted {
		return nil
	}
	raw, err := t.socket.SyscallConn()
	if err != nil {
		return nil
	}
	_ = raw.Control(func(fd uintptr) {
		// Without a child we wait ourselves.
		wait, _ = detached(int(fd), func(*spawn.Program) {})
	})
	return wait
}
