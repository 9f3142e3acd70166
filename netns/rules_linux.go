package netns

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Present reports whether the table is there: others may flush it.
func (r Rules) Present() (bool, error) {
	_, err := new(nftables.Conn).ListTableOfFamily(r.Table, nftables.TableFamilyINet)
	switch {
	case errors.Is(err, unix.ENOENT):
		return false, nil
	case err != nil:
		return false, r.wrap("look for", err)
	}
	return true, nil
}

// Replace makes the table anew, with what all pods publish, and the policies of those
// that have one. guarded are the links that forward for the sake of pods only.
func (r Rules) Replace(pods []Publication, guarded Uplinks, policed ...Policed) error {
	there, err := r.Present()
	if err != nil {
		return err
	}
	var key []byte
	if len(policed) > 0 {
		if key, err = r.key(); err != nil {
			return err
		}
	}
	// begin prepares the table for its rules and for elements, or some of them.
	replace := func(begin func(*nftables.Conn, *nftables.Table, *batch) error) error {
		return r.commit("replace", there, func(c *nftables.Conn, t *nftables.Table) error {
			b := newBatch(t)
			for _, p := range pods {
				b.publish(p)
				b.hairpin(p)
			}
			b.key = key
			for _, p := range policed {
				b.police(p)
			}
			b.bound()
			b.guard(guarded)
			if len(policed) == 0 { // where there are no policies they cost nothing
				maps.DeleteFunc(b.sets, func(name string, _ *nftables.Set) bool { return b.policies[name] })
			}
			if err := begin(c, t, b); err != nil {
				return err
			}
			addChains(c, t, b.sets)
			if len(policed) > 0 {
				addPolicyChains(c, t, b.sets)
			}
			return b.each(c.SetAddElements)
		})
	}
	if there && replace(r.refresh) == nil {
		return nil
	}
	err = replace(func(c *nftables.Conn, t *nftables.Table, b *batch) error {
		if there {
			c.AddTable(t) // should it be flushed at this moment
			c.DelTable(t)
		}
		c.AddTable(t)
		for _, s := range b.sets {
			if err := c.AddSet(s, nil); err != nil {
				return err
			}
		}
		return nil
	})
	if errors.Is(err, unix.ENOENT) { // everything else that it names it has made
		return fmt.Errorf("%w: %w by this kernel: it lacks CONFIG_NFT_FIB_INET, CONFIG_NFT_NAT, CONFIG_NFT_MASQ or CONFIG_NFT_CT", err, ErrNotSupported)
	}
	return err
}

// Add publishes more ports of a pod. It may be repeated.
func (r Rules) Add(p Publication) error {
	return r.commit("add to", false, func(c *nftables.Conn, t *nftables.Table) error {
		b := newBatch(t)
		b.publish(p)
		b.hairpin(p)
		return b.each(c.SetAddElements)
	})
}

// Delete ends that ports of a pod are published; last says that no others are. What
// is not there is no error.
func (r Rules) Delete(p Publication, last bool) error {
	b := newBatch(r.table())
	b.publish(p)
	if last {
		b.hairpin(p)
	}
	err := r.commit("delete from", true, func(c *nftables.Conn, _ *nftables.Table) error {
		return b.each(c.SetDeleteElements)
	})
	if !errors.Is(err, unix.ENOENT) {
		return err
	}
	// One that is missing undoes the whole transaction.
	if there, err := r.Present(); !there || err != nil {
		return err
	}
	for name, elems := range b.elements {
		for _, e := range elems {
			err := r.commit("delete from", true, func(c *nftables.Conn, _ *nftables.Table) error {
				return c.SetDeleteElements(b.sets[name], []nftables.SetElement{e})
			})
			if err != nil && !errors.Is(err, unix.ENOENT) {
				return err
			}
		}
	}
	return nil
}

// Remove removes the table. If it is not there that is no error.
func (r Rules) Remove() error {
	err := r.commit("remove", true, func(c *nftables.Conn, t *nftables.Table) error {
		c.DelTable(t)
		return nil
	})
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// commit does a transaction; deletes says that it may delete something.
func (r Rules) commit(verb string, deletes bool, fill func(*nftables.Conn, *nftables.Table) error) error {
	tx, err := newTransaction()
	if err != nil {
		return r.wrap(verb, err)
	}
	err = fill(tx.Conn, r.table())
	if err == nil {
		err = tx.Flush()
	}
	if wait := tx.close(deletes); wait != nil && r.Later != nil {
		r.Later(wait)
	}
	return r.wrap(verb, err)
}

func (r Rules) table() *nftables.Table {
	return &nftables.Table{Name: r.Table, Family: nftables.TableFamilyINet}
}

// wrap says what was done to which table. A kernel that does not know what is asked
// for answers by one of a few errors.
func (r Rules) wrap(verb string, err error) error {
	if err == nil {
		return nil
	}
	for _, e := range []error{unix.EPROTONOSUPPORT, unix.EOPNOTSUPP, unix.EINVAL, unix.EAFNOSUPPORT} {
		if errors.Is(err, e) {
			return fmt.Errorf("%s nftables %s: %w: the kernel says: %w", verb, r.Table, ErrNotSupported, err)
		}
	}
	return fmt.Errorf("%s nftables %s: %w", verb, r.Table, err)
}

// A batch is elements for the sets of a table.
type batch struct {
	sets     map[string]*nftables.Set
	policies map[string]bool // which of them are there for policies only
	stated   map[string]bool // facts that are among the elements
	key      []byte          // of hashes
	elements map[string][]nftables.SetElement
}

// newBatch returns a batch without elements. Sets have IDs, for the library counts
// them in a variable that is not locked.
func newBatch(t *nftables.Table) *batch {
	b := &batch{sets: make(map[string]*nftables.Set), policies: make(map[string]bool), stated: make(map[string]bool), elements: make(map[string][]nftables.SetElement)}
	add := func(name string, s nftables.Set) {
		s.Table, s.Name, s.ID, s.KeyByteOrder = t, name, uint32(len(b.sets)+1), binaryutil.BigEndian
		b.sets[name] = &s
	}
	proto, port := nftables.TypeInetProto, nftables.TypeInetService
	for family, addr := range map[string]nftables.SetDatatype{"4": nftables.TypeIPAddr, "6": nftables.TypeIP6Addr} {
		to := nftables.MustConcatSetType(addr, port)
		add("any"+family, nftables.Set{IsMap: true, Concatenation: true, KeyType: nftables.MustConcatSetType(proto, port), DataType: to})
		add("one"+family, nftables.Set{IsMap: true, Concatenation: true, KeyType: nftables.MustConcatSetType(proto, addr, port), DataType: to})
		add("range"+family, nftables.Set{IsMap: true, Concatenation: true, Interval: true, KeyType: nftables.MustConcatSetType(proto, addr, port), DataType: addr})
		add("hairpin"+family, nftables.Set{Concatenation: true, KeyType: nftables.MustConcatSetType(addr, addr)})
		add("uplinks"+family, nftables.Set{KeyType: nftables.TypeIFName})
		add(seen(family), nftables.Set{
			Concatenation: true, KeyType: nftables.MustConcatSetType(nftables.TypeIFIndex, addr),
			Dynamic: true, HasTimeout: true, Timeout: seenTime, Size: maxSeen,
		})
		addPolicySets(func(name string, s nftables.Set) {
			add(name, s)
			b.policies[name] = true
		}, family, addr)
	}
	return b
}

func (b *batch) add(set string, e nftables.SetElement) {
	b.elements[set] = append(b.elements[set], e)
}

// publish adds the elements of ports. A range that is the same on both sides is one
// interval: the kernel keeps the port. One that is shifted needs an element for each
// port, for nftables cannot calculate with ports; those are hashed and cost nothing
// but memory.
func (b *batch) publish(p Publication) {
	for family, pod := range p.addrs() {
		for _, port := range p.Ports {
			port = port.WithDefaults()
			if !port.reaches(pod) || port.HostPort == 0 {
				continue
			}
			if port.Count > 1 && port.HostPort == port.Port {
				from, to := port.HostIP, port.HostIP
				if port.anywhere() {
					from, to = extremes(pod)
				}
				b.add("range"+family, nftables.SetElement{
					Key:    join(proto4(port.Protocol), from.AsSlice(), port4(port.HostPort)),
					KeyEnd: join(proto4(port.Protocol), to.AsSlice(), port4(port.HostPort+port.Count-1)),
					Val:    pod.AsSlice(),
				})
				continue
			}
			for i := range port.Count {
				set, addr := "any"+family, []byte(nil)
				if !port.anywhere() {
					set, addr = "one"+family, port.HostIP.AsSlice()
				}
				b.add(set, nftables.SetElement{
					Key: join(proto4(port.Protocol), addr, port4(port.HostPort+i)),
					Val: join(pod.AsSlice(), port4(port.Port+i)),
				})
			}
		}
	}
}

// hairpin adds the pair of the pod's address with itself, as source and destination.
func (b *batch) hairpin(p Publication) {
	for family, pod := range p.addrs() {
		b.add("hairpin"+family, nftables.SetElement{Key: join(pod.AsSlice(), pod.AsSlice())})
	}
}

func (b *batch) guard(links Uplinks) {
	for family, names := range map[string][]string{"4": links.V4, "6": links.V6} {
		for _, name := range names {
			b.add("uplinks"+family, nftables.SetElement{Key: linkKey(name)})
		}
	}
}

// chunk is how many elements are in a message: an attribute is at most 64 KiB long.
const chunk = 400

// each calls f for all elements, some at a time.
func (b *batch) each(f func(*nftables.Set, []nftables.SetElement) error) error {
	for name, elems := range b.elements {
		for len(elems) > 0 {
			n := min(len(elems), chunk)
			if err := f(b.sets[name], elems[:n]); err != nil {
				return err
			}
			elems = elems[n:]
		}
	}
	return nil
}

// Keys are concatenations of fields that are padded to four bytes.

func join(fields ...[]byte) []byte { return bytes.Join(fields, nil) }

func proto4(p Protocol) []byte { return []byte{p.number(), 0, 0, 0} }

func port4(port uint16) []byte { return append(binary.BigEndian.AppendUint16(nil, port), 0, 0) }

func linkKey(name string) []byte {
	key := make([]byte, unix.IFNAMSIZ)
	copy(key[:unix.IFNAMSIZ-1], name)
	return key
}

// extremes returns the first and the last address of the family of a.
func extremes(a netip.Addr) (first, last netip.Addr) {
	b := bytes.Repeat([]byte{0xff}, a.BitLen()/8)
	last, _ = netip.AddrFromSlice(b)
	first, _ = netip.AddrFromSlice(make([]byte, len(b)))
	return first, last
}

// Registers of 4 bytes follow one another: NFT_REG32_00 is the beginning of NFT_REG_1,
// NFT_REG32_04 that of NFT_REG_2; linux/netfilter/nf_tables.h.
const (
	reg0 = unix.NFT_REG_1
	reg1 = unix.NFT_REG32_01
	reg2 = unix.NFT_REG32_02
	reg4 = unix.NFT_REG_2
	reg5 = unix.NFT_REG32_05
)

// An ipFamily is what the rules need to know of an IP version.
type ipFamily struct {
	name           string // of its sets
	nfproto        byte
	src, dst, size uint32 // of addresses in the header
	gateway        netip.Addr
	afterAddr      uint32 // the register behind an address at reg0
	afterProtoAddr uint32 // the one behind a protocol and an address
}

var (
	ipv4 = ipFamily{"4", unix.NFPROTO_IPV4, 12, 16, 4, Gateway, reg1, reg2}
	ipv6 = ipFamily{"6", unix.NFPROTO_IPV6, 8, 24, 16, Gateway6, reg4, reg5}
)

// addChains adds the rules, which are the same for all pods.
func addChains(c *nftables.Conn, t *nftables.Table, sets map[string]*nftables.Set) {
	chain := func(name string, kind nftables.ChainType, hook *nftables.ChainHook, p *nftables.ChainPriority) *nftables.Chain {
		return c.AddChain(&nftables.Chain{Name: name, Table: t, Type: kind, Hooknum: hook, Priority: p})
	}
	rule := func(chain *nftables.Chain, parts ...[]expr.Any) {
		var all []expr.Any
		for _, p := range parts {
			all = append(all, p...)
		}
		c.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: all})
	}
	ports := c.AddChain(&nftables.Chain{Name: "ports", Table: t})
	martians := chain("martians", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, nftables.ChainPriorityRaw)
	in := chain("in", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest)
	own := chain("own", nftables.ChainTypeNAT, nftables.ChainHookOutput, nftables.ChainPriorityNATDest)
	out := chain("out", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource)
	guard := chain("guard", nftables.ChainTypeFilter, nftables.ChainHookForward, nftables.ChainPriorityFilter)

	// What most packets meet comes first.
	rule(martians, ipv6.source(), lookup(sets[seen(ipv6.name)], false), verdict(expr.VerdictAccept, ""))
	// Links of pods have route_localnet, by which 127.0.0.1 reaches them. Without these
	// rules they, and by a port that is published at 127.0.0.1 everybody on the host's
	// networks, would reach 127.0.0.1; and could send as if they were it.
	loopback := func(offset uint32) {
		rule(martians, is(ipv4.nfproto), field(offset, 1, reg0), equal([]byte{127}), link(expr.MetaKeyIIFNAME, expr.CmpOpNeq, "lo\x00"), verdict(expr.VerdictDrop, ""))
	}
	loopback(ipv4.dst)
	rule(martians, ipv4.source(), lookup(sets[seen(ipv4.name)], false), verdict(expr.VerdictAccept, ""))
	loopback(ipv4.src)
	rule(martians, link(expr.MetaKeyIIFNAME, expr.CmpOpNeq, linkPrefix), verdict(expr.VerdictAccept, ""))
	rule(martians, forged(), verdict(expr.VerdictDrop, ""))
	rule(martians, is(ipv4.nfproto), field(ipv4.src, 1, reg0), equal([]byte{0}), verdict(expr.VerdictDrop, ""))
	rule(martians, is(ipv6.nfproto), field(ipv6.src, ipv6.size, reg0), equal(netip.IPv6Unspecified().AsSlice()), verdict(expr.VerdictAccept, ""))
	for _, f := range []ipFamily{ipv4, ipv6} {
		rule(martians, f.source(), see(sets[seen(f.name)]))
	}

	rule(in, toHost(), verdict(expr.VerdictJump, ports.Name))
	// What is sent to ::1 is what Loopback6 has not turned: better refused at once than
	// never answered.
	rule(own, is(ipv6.nfproto), field(ipv6.dst, ipv6.size, reg0), equal(netip.IPv6Loopback().AsSlice()), verdict(expr.VerdictAccept, ""))
	rule(own, toHost(), verdict(expr.VerdictJump, ports.Name))

	podLink := func(key expr.MetaKey, op expr.CmpOp) []expr.Any { return link(key, op, linkPrefix) }
	rule(out, podLink(expr.MetaKeyIIFNAME, expr.CmpOpEq), podLink(expr.MetaKeyOIFNAME, expr.CmpOpNeq), []expr.Any{&expr.Masq{}})
	rule(out, translated(expr.CmpOpNeq), podLink(expr.MetaKeyOIFNAME, expr.CmpOpEq),
		is(ipv4.nfproto), field(ipv4.src, 1, reg0), equal([]byte{127}), ipv4.fromGateway())

	rule(guard, bits(expr.CtKeySTATE, expr.CtStateBitNEW, expr.CmpOpEq), verdict(expr.VerdictAccept, ""))
	for _, f := range []ipFamily{ipv4, ipv6} {
		proto := []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg0}}
		rule(ports, is(f.nfproto), proto, destination(reg1), lookup(sets["any"+f.name], true), f.toPod(f.afterAddr))
		rule(ports, is(f.nfproto), proto, field(f.dst, f.size, reg1), destination(f.afterProtoAddr), lookup(sets["one"+f.name], true), f.toPod(f.afterAddr))
		rule(ports, is(f.nfproto), proto, field(f.dst, f.size, reg1), destination(f.afterProtoAddr), lookup(sets["range"+f.name], true), f.toPod(0))

		rule(out, translated(expr.CmpOpNeq), is(f.nfproto), field(f.src, f.size, reg0), field(f.dst, f.size, f.afterAddr),
			lookup(sets["hairpin"+f.name], false), f.fromGateway())

		rule(guard, is(f.nfproto), []expr.Any{&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: reg0}}, lookup(sets["uplinks"+f.name], false),
			translated(expr.CmpOpEq), verdict(expr.VerdictDrop, ""))
	}
}

// is matches packets of one IP version.
func is(nfproto byte) []expr.Any {
	return append([]expr.Any{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: reg0}}, equal([]byte{nfproto})...)
}

// equal compares what is at reg0, or its beginning.
func equal(data []byte) []expr.Any {
	return []expr.Any{&expr.Cmp{Op: expr.CmpOpEq, Register: reg0, Data: data}}
}

// link compares the name of a link, or its beginning.
func link(key expr.MetaKey, op expr.CmpOp, name string) []expr.Any {
	return []expr.Any{&expr.Meta{Key: key, Register: reg0}, &expr.Cmp{Op: op, Register: reg0, Data: []byte(name)}}
}

// field loads a part of the IP header.
func field(offset, size, reg uint32) []expr.Any {
	return []expr.Any{&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size}}
}

// destination loads the destination port, which TCP, UDP and SCTP have in the same place.
func destination(reg uint32) []expr.Any {
	return []expr.Any{&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2}}
}

// toHost matches what is sent to an address of the host.
func toHost() []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: reg0, FlagDADDR: true, ResultADDRTYPE: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg0, Data: binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)},
	}
}

// lookup looks for what is at reg0 in a set; what a map has for it comes to the same
// place.
func lookup(s *nftables.Set, isMap bool) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: reg0, DestRegister: reg0, IsDestRegSet: isMap, SetName: s.Name, SetID: s.ID}}
}

// toPod changes the destination to the address at reg0, and the port, unless that is
// 0, to what is in a register.
func (f ipFamily) toPod(port uint32) []expr.Any {
	nat := &expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(f.nfproto), RegAddrMin: reg0}
	if port != 0 {
		nat.RegProtoMin, nat.Specified = port, true
	}
	return []expr.Any{nat}
}

// fromGateway changes the source to the gateway's address. It is not that of the
// link by which it leaves, as masquerade has it: that takes none of scope link.
func (f ipFamily) fromGateway() []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: reg0, Data: f.gateway.AsSlice()},
		&expr.NAT{Type: expr.NATTypeSourceNAT, Family: uint32(f.nfproto), RegAddrMin: reg0},
	}
}

// translated tells, by CmpOpNeq, connections whose destination was changed, and by
// CmpOpEq others.
func translated(op expr.CmpOp) []expr.Any {
	return bits(expr.CtKeySTATUS, statusDstNAT, op)
}

const statusDstNAT = 1 << 5 // IPS_DST_NAT, linux/netfilter/nf_conntrack_common.h

// bits compares some bits of a connection's property with 0.
func bits(key expr.CtKey, mask uint32, op expr.CmpOp) []expr.Any {
	zero := make([]byte, 4)
	return []expr.Any{
		&expr.Ct{Key: key, Register: reg0},
		&expr.Bitwise{SourceRegister: reg0, DestRegister: reg0, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(mask), Xor: zero},
		&expr.Cmp{Op: op, Register: reg0, Data: zero},
	}
}

func verdict(kind expr.VerdictKind, chain string) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: kind, Chain: chain}}
}
