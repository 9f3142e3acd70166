package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// CanTranslate reports, as an error that matches ErrNotSupported, why the kernel cannot
// publish ports of a protocol. SCTP is a part that it may have been built without.
func CanTranslate(p Protocol) error {
	if p != SCTP {
		return nil
	}
	// It is there from the first time that the namespace keeps track of connections.
	_, err := os.Stat("/proc/sys/net/netfilter/nf_conntrack_sctp_timeout_established")
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat("/proc/sys/net/netfilter/nf_conntrack_max"); err == nil {
			return fmt.Errorf("protocol sctp: %w by this kernel: it has no CONFIG_NF_CT_PROTO_SCTP", ErrNotSupported)
		}
	}
	return nil
}
