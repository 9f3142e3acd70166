package netns

import (
	"encoding/binary"

	"github.com/google/nftables/expr"
)

// forged matches what comes from a pod with a source that is not the pod's: to answer it
// by the same link there is no route. Whoever has CAP_NET_RAW or CAP_NET_ADMIN in a pod
// can send so, and everything that is decided by a pod's address relies on that nobody
// is heard. It is asked of each packet and not only of the first of a connection, or a
// pod could speak in the midst of another's; and before the connection is looked for, or
// it could fill the table of connections with strangers.
//
// It needs no element for a pod: the kernel's routes are where a pod's addresses stand
// already, and the rule holds for those of other installations too.
func forged() [][]expr.Any {
	none := binary.NativeEndian.AppendUint32(nil, 0)
	return [][]expr.Any{
		link(expr.MetaKeyIIFNAME, expr.CmpOpEq, linkPrefix),
		{
			&expr.Fib{Register: reg0, FlagSADDR: true, FlagIIF: true, ResultOIF: true},
			&expr.Cmp{Op: expr.CmpOpEq, Register: reg0, Data: none},
		},
	}
}

// nobody matches what comes from a pod without an address, which forged lets pass if it is
// for all on the link (nft_fib4_eval): a pod of whom no policy knows would reach whoever
// listens on the host. The kernel lets ICMPv6 pass likewise, to ask who is on the link; no
// program hears that.
func nobody() [][]expr.Any {
	return [][]expr.Any{link(expr.MetaKeyIIFNAME, expr.CmpOpEq, linkPrefix), is(ipv4.nfproto), field(ipv4.src, 1, reg0), equal([]byte{0})}
}
