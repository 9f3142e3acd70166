package nettest

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"net"
	"testing"
	"time"

	"github.com/podbox/podbox/netns"
	"github.com/podbox/podbox/sandbox"
)

// An association of SCTP through a published port: what begins it reaches the pod, and
// the answer comes back from the host's port. The kernel need not have sockets for
// SCTP, only know how to translate it: the packets are made here, and their checksums
// must be right at the other end.
func TestSCTP(t *testing.T) {
	l := newLab(t)
	if err := netns.CanTranslate(netns.SCTP); err != nil {
		if !errors.Is(err, netns.ErrNotSupported) {
			t.Fatal(err)
		}
		// Then it is refused, by name.
		_, err := l.rt.Create(l.Context(), sandbox.Spec{Name: "web", Ports: l.ports("22132:80/sctp")})
		if !errors.Is(err, netns.ErrNotSupported) {
			t.Errorf("created on a kernel that cannot: %v", err)
		}
		return
	}
	client := l.machine("client")
	web := l.pod("web", "22132:80/sctp", "22140-22149:90-99/sctp")
	const initiate, acknowledge = 1, 2
	for _, v := range []struct {
		network, client, host, pod string
	}{
		{"ip4:132", client.ip.String(), hostIP, web.ip.String()},
		{"ip6:132", client.ip6.String(), hostIP6, web.ip6.String()},
	} {
		outside, inside := l.rawPackets(client, v.network, v.client), l.rawPackets(web.node, v.network, v.pod)
		for _, port := range []struct{ host, pod uint16 }{{22132, 80}, {22145, 95}} {
			to := &net.IPAddr{IP: net.ParseIP(v.host)}
			_, err := outside.WriteTo(sctp(5000, port.host, initiate), to)
			l.must(err)
			l.hearsPacket("web", inside, v.client, sctp(5000, port.pod, initiate))
			_, err = inside.WriteTo(sctp(port.pod, 5000, acknowledge), &net.IPAddr{IP: net.ParseIP(v.client)})
			l.must(err)
			l.hearsPacket("client", outside, v.host, sctp(port.host, 5000, acknowledge))
		}
	}
}

func (l *lab) rawPackets(n *node, network, address string) net.PacketConn {
	l.Helper()
	var c net.PacketConn
	l.must(n.do(func() (err error) {
		c, err = net.ListenPacket(network, address)
		return err
	}))
	l.Cleanup(func() { c.Close() })
	return c
}

func (l *lab) hearsPacket(name string, c net.PacketConn, from string, want []byte) {
	l.Helper()
	_ = c.SetReadDeadline(time.Now().Add(patience))
	b := make([]byte, 2000)
	n, sender, err := c.ReadFrom(b)
	if err != nil {
		l.Errorf("%s hears nothing: %v", name, err)
		return
	}
	if sender.String() != from || string(b[:n]) != string(want) {
		l.Errorf("%s hears from %s %x, want from %s %x", name, sender, b[:n], from, want)
	}
}

// sctp is a packet with one chunk, INIT or INIT ACK, RFC 9260. They look alike, but
// that what answers has the tag of who asked, and a cookie.
func sctp(from, to uint16, chunk byte) []byte {
	b := make([]byte, 32)
	binary.BigEndian.PutUint16(b[0:], from)
	binary.BigEndian.PutUint16(b[2:], to)
	b[12] = chunk
	binary.BigEndian.PutUint32(b[16:], 1)    // initiate tag
	binary.BigEndian.PutUint32(b[20:], 8192) // window
	binary.BigEndian.PutUint16(b[24:], 1)    // streams out
	binary.BigEndian.PutUint16(b[26:], 1)    // and in
	binary.BigEndian.PutUint32(b[28:], 1)    // TSN
	if chunk == 2 {
		binary.BigEndian.PutUint32(b[4:], 1)
		b = append(b, 0, 7, 0, 8, 'c', 'o', 'o', 'k') // a parameter: the cookie
	}
	binary.BigEndian.PutUint16(b[14:], uint16(len(b)-12)) // length of the chunk
	binary.LittleEndian.PutUint32(b[8:], crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	return b
}
