package netns

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Policies are elements of sets, and rules of which there are as many however many pods
// have one. The sets are, for each IP version:
//
//	from, to    pods that are restricted in one way
//	pick        place, pod: what the pod allows, in as many places as it may allow things
//	facts       thing, addresses, protocols, ports: what belongs to a thing
//	members     group, pod: who belongs to a group of pods
//	isolated    pod: the group that it keeps to
//
// For each place there is a rule that looks for what the pod has there, and whether the
// peer belongs to that. All sets but facts are hashed. Facts are of intervals, which the
// kernel copies when there is another; but what a network or a range of ports is does not
// depend on who names it. So pods that name the same share them, and they stay when a pod
// goes: until there is no room any more, when all is made anew.
//
// What depends on pods that come and go is in members alone: whoever comes adds what it
// belongs to itself, and no other pod is touched.
//
// A thing or a group is a hash of 64 bits in two halves, a and b, with a set for each
// half. Places and what is found in them go through the packet's priority: what one map
// says, or a constant, can be looked for in a set together with an address only by way of
// a field that can be written to. The kernel knows no such limit, but nft(8) does, and
// aborts when it is to show it. Only first packets of connections are looked at, and
// they go on with the priority that most packets have.

// halves are those of what stands for a thing.
var halves = [...]string{"a", "b"}

// hash returns what stands for a thing, by half. Two that are alike in one half each would
// be taken for a third by both: such are soon found by whoever knows the key.
func (b *batch) hash(thing string) map[string][]byte {
	mac := hmac.New(sha256.New, b.key)
	mac.Write([]byte(thing))
	sum := mac.Sum(nil)
	return map[string][]byte{"a": sum[:4], "b": sum[4:8]}
}

// place returns the number of one of the places of a pod.
func place(way int, k kind, i int, service bool) []byte {
	n := uint32(way<<12 | int(k)<<8 | i)
	if service {
		n |= 1 << 16
	}
	return binary.NativeEndian.AppendUint32(nil, n)
}

// ways are those that connections go, as a pod sees it.
var ways = [...]string{"from", "to"}

func addPolicySets(add func(string, nftables.Set), family string, addr nftables.SetDatatype) {
	proto, port, thing := nftables.TypeInetProto, nftables.TypeInetService, nftables.TypeClassID
	concat := nftables.MustConcatSetType
	for _, way := range ways {
		add(way+family, nftables.Set{KeyType: addr})
	}
	for _, half := range halves {
		add("pick"+half+family, nftables.Set{IsMap: true, Concatenation: true, KeyType: concat(thing, addr), DataType: thing})
		add("facts"+half+family, nftables.Set{Concatenation: true, Interval: true, KeyType: concat(thing, addr, proto, port)})
		add("members"+half+family, nftables.Set{Concatenation: true, KeyType: concat(thing, addr)})
		add("isolated"+half+family, nftables.Set{IsMap: true, KeyType: addr, DataType: thing})
	}
}

// police adds the elements of a pod.
func (b *batch) police(p Policed) {
	for family, pod := range p.Address.families() {
		for way, peers := range [][]Peer{p.Policy.From, p.Policy.To} {
			if peers == nil {
				continue
			}
			b.add(ways[way]+family, nftables.SetElement{Key: pod.AsSlice()})
			var n [kinds]int
			for _, peer := range peers {
				k := peer.kind()
				i := n[k]
				n[k]++
				if k == near {
					b.pick(family, place(way, k, i, false), pod, string(peer.group()))
				}
				if k != far {
					peer = peer.service()
				}
				if f, ok := peer.fact(pod); ok {
					b.pick(family, place(way, k, i, k == near), pod, f.name)
					b.state(family, f)
				}
			}
		}
		if p.Isolated != "" {
			for half, id := range b.hash(string(p.Isolated)) {
				b.add("isolated"+half+family, nftables.SetElement{Key: pod.AsSlice(), Val: id})
			}
		}
		for _, g := range p.Groups {
			for half, id := range b.hash(string(g)) {
				b.add("members"+half+family, nftables.SetElement{Key: join(id, pod.AsSlice())})
			}
		}
	}
}

// pick puts a thing into a place of a pod.
func (b *batch) pick(family string, place []byte, pod netip.Addr, thing string) {
	for half, id := range b.hash(thing) {
		b.add("pick"+half+family, nftables.SetElement{Key: join(place, pod.AsSlice()), Val: id})
	}
}

// state adds a fact, once.
func (b *batch) state(family string, f fact) {
	if b.stated[family+f.name] {
		return
	}
	b.stated[family+f.name] = true
	for half, id := range b.hash(f.name) {
		b.add("facts"+half+family, nftables.SetElement{
			Key:    join(id, f.first.AsSlice(), []byte{f.ports.firstProto, 0, 0, 0}, port4(f.ports.first)),
			KeyEnd: join(id, f.last.AsSlice(), []byte{f.ports.lastProto, 0, 0, 0}, port4(f.ports.last)),
		})
	}
}

// bound limits how many facts there are, beyond those that are needed now.
func (b *batch) bound() {
	for family := range (Address{IP: Gateway, IP6: Gateway6}).families() {
		for _, half := range halves {
			name := "facts" + half + family
			b.sets[name].Size = uint32(2*len(b.elements[name]) + spareFacts)
		}
	}
}

const spareFacts = 1024

// families returns the addresses with the rules' names for their families.
func (a Address) families() map[string]netip.Addr { return Publication{Address: a}.addrs() }

// Police makes the rules have what now says of a pod rather than what was says, in one
// transaction. Either may be zero. ErrAbsent if they do not have what was says, or have
// something else, or have no room: then they are to be replaced.
func (r Rules) Police(was, now Policed) error {
	key, err := r.key()
	if err != nil {
		return err
	}
	old, fresh := newBatch(r.table()), newBatch(r.table())
	old.key, fresh.key = key, key
	old.police(was)
	fresh.police(now)
	gone, come := old.without(fresh), fresh.without(old)
	for name := range gone.elements {
		if isFacts(name) {
			delete(gone.elements, name)
		}
	}
	if len(gone.elements)+len(come.elements) == 0 {
		return nil
	}
	err = r.commit("police by", len(gone.elements) > 0, func(c *nftables.Conn, _ *nftables.Table) error {
		if err := gone.each(c.SetDeleteElements); err != nil {
			return err
		}
		return come.each(c.SetAddElements)
	})
	for _, e := range []error{unix.ENOENT, unix.EEXIST, unix.ENOTEMPTY, unix.ENFILE} {
		if errors.Is(err, e) {
			return errors.Join(ErrAbsent, err)
		}
	}
	return err
}

func isFacts(set string) bool { return strings.HasPrefix(set, "facts") }

// without returns what b has and other does not.
func (b *batch) without(other *batch) *batch {
	left := &batch{sets: b.sets, elements: make(map[string][]nftables.SetElement)}
	for name, elems := range b.elements {
		for _, e := range elems {
			if !slices.ContainsFunc(other.elements[name], func(f nftables.SetElement) bool {
				return slices.Equal(e.Key, f.Key) && slices.Equal(e.KeyEnd, f.KeyEnd) && slices.Equal(e.Val, f.Val)
			}) {
				left.add(name, e)
			}
		}
	}
	return left
}

// addPolicyChains adds the rules. Only what begins a connection is looked at.
func addPolicyChains(c *nftables.Conn, t *nftables.Table, sets map[string]*nftables.Set) {
	rule := func(chain *nftables.Chain, parts ...[]expr.Any) {
		c.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: slices.Concat(parts...)})
	}
	base := func(name string, hook *nftables.ChainHook) *nftables.Chain {
		chain := c.AddChain(&nftables.Chain{Name: name, Table: t, Type: nftables.ChainTypeFilter, Hooknum: hook, Priority: nftables.ChainPriorityFilter})
		const established = expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED
		rule(chain, bits(expr.CtKeySTATE, established, expr.CmpOpNeq), verdict(expr.VerdictAccept, ""))
		return chain
	}
	in := func(set string, reg uint32, is bool) []expr.Any {
		return []expr.Any{&expr.Lookup{SourceRegister: reg, SetName: sets[set].Name, SetID: sets[set].ID, Invert: !is}}
	}
	var allow [len(ways)]*nftables.Chain
	for way, name := range ways {
		allow[way] = c.AddChain(&nftables.Chain{Name: "allow-" + name, Table: t})
	}
	through, toHost := base("policy", nftables.ChainHookForward), base("policy-host", nftables.ChainHookInput)
	fromHost := base("policy-own", nftables.ChainHookOutput)
	// Who is on the link is asked by these, and they belong to no connection.
	const solicitation, advertisement = 135, 136
	for _, kind := range []byte{solicitation, advertisement} {
		rule(toHost, is(ipv6.nfproto), []expr.Any{
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg0}, &expr.Cmp{Op: expr.CmpOpEq, Register: reg0, Data: []byte{unix.IPPROTO_ICMPV6}},
			&expr.Payload{DestRegister: reg0, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: reg0, Data: []byte{kind}},
		}, verdict(expr.VerdictAccept, ""))
	}
	inLink, outLink := link(expr.MetaKeyIIFNAME, expr.CmpOpEq, linkPrefix), link(expr.MetaKeyOIFNAME, expr.CmpOpEq, linkPrefix)
	for _, f := range []ipFamily{ipv4, ipv6} {
		// What may be the answer to a connection that was forgotten, as it is not allowed any
		// more: the kernel would take it for the beginning of one that goes the other way.
		answer := func(chain *nftables.Chain, link []expr.Any, pod uint32, way int) {
			rule(chain, link, bits(expr.CtKeySTATE, expr.CtStateBitNEW, expr.CmpOpNeq), midstream(), is(f.nfproto), field(pod, f.size, reg0), in(ways[way]+f.name, reg0, true), verdict(expr.VerdictDrop, ""))
		}
		answer(through, inLink, f.src, 0)
		answer(through, outLink, f.dst, 1)
		answer(fromHost, outLink, f.dst, 1)
		between := slices.Concat(inLink, outLink, is(f.nfproto))
		// A pod and itself, by a published port.
		rule(through, between, field(f.src, f.size, reg0), field(f.dst, f.size, f.afterAddr), in("hairpin"+f.name, reg0, true), verdict(expr.VerdictAccept, ""))
		for _, ends := range [][2]uint32{{f.dst, f.src}, {f.src, f.dst}} {
			for _, half := range halves {
				rule(through, between, field(ends[0], f.size, reg0), lookup(sets["isolated"+half+f.name], true), setPriority,
					getPriority, field(ends[1], f.size, reg1), in("members"+half+f.name, reg0, false), verdict(expr.VerdictDrop, ""))
			}
		}
		rule(through, between, resetPriority())
		jump := func(chain *nftables.Chain, link []expr.Any, pod uint32, way int) {
			rule(chain, link, is(f.nfproto), field(pod, f.size, reg0), in(ways[way]+f.name, reg0, true), verdict(expr.VerdictJump, allow[way].Name))
		}
		jump(through, outLink, f.dst, 0)
		jump(through, inLink, f.src, 1)

		for i := range most[self] {
			rule(toHost, inLink, f.belongs(sets, place(1, self, i, false), f.src, f.dst, "facts"), resetPriority(), verdict(expr.VerdictAccept, ""))
		}
		jump(toHost, inLink, f.src, 1)

		for way, w := range [...]struct {
			pod, peer uint32
			link      []expr.Any
		}{{f.dst, f.src, inLink}, {f.src, f.dst, outLink}} {
			for i := range most[far] {
				rule(allow[way], f.belongs(sets, place(way, far, i, false), w.pod, w.peer, "facts"), resetPriority(), verdict(expr.VerdictReturn, ""))
			}
			for i := range most[near] {
				rule(allow[way], w.link, f.belongs(sets, place(way, near, i, false), w.pod, w.peer, "members"),
					f.belongs(sets, place(way, near, i, true), w.pod, w.peer, "facts"), resetPriority(), verdict(expr.VerdictReturn, ""))
			}
		}
	}
	for _, chain := range allow {
		rule(chain, verdict(expr.VerdictDrop, ""))
	}
}

// midstream matches packets of TCP that begin no connection.
func midstream() []expr.Any {
	const flags, syn, ack = 13, 0x02, 0x10
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg0}, &expr.Cmp{Op: expr.CmpOpEq, Register: reg0, Data: []byte{unix.IPPROTO_TCP}},
		&expr.Payload{DestRegister: reg0, Base: expr.PayloadBaseTransportHeader, Offset: flags, Len: 1},
		&expr.Bitwise{SourceRegister: reg0, DestRegister: reg0, Len: 1, Mask: []byte{syn | ack}, Xor: []byte{0}},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: reg0, Data: []byte{syn}},
	}
}

// belongs matches if what a pod has in a place is there, and the peer belongs to it by
// both halves: in a set of members, or of facts, where what is connected to counts too.
// The offsets are those of the two addresses in the header.
func (f ipFamily) belongs(sets map[string]*nftables.Set, place []byte, pod, peer uint32, set string) []expr.Any {
	exprs := is(f.nfproto)
	for _, half := range halves {
		exprs = slices.Concat(exprs, []expr.Any{&expr.Immediate{Register: reg0, Data: place}}, setPriority,
			getPriority, field(pod, f.size, reg1), lookup(sets["pick"+half+f.name], true), setPriority,
			getPriority, field(peer, f.size, reg1))
		if set == "facts" {
			after := uint32(reg1 + f.size/4)
			exprs = slices.Concat(exprs, []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: after}}, destination(after+1))
		}
		exprs = append(exprs, lookup(sets[set+half+f.name], false)...)
	}
	return exprs
}

// setPriority and getPriority move the packet's priority from and to reg0.
var (
	setPriority = []expr.Any{&expr.Meta{Key: expr.MetaKeyPRIORITY, SourceRegister: true, Register: reg0}}
	getPriority = []expr.Any{&expr.Meta{Key: expr.MetaKeyPRIORITY, Register: reg0}}
)

func resetPriority() []expr.Any {
	return append([]expr.Any{&expr.Immediate{Register: reg0, Data: make([]byte, 4)}}, setPriority...)
}
