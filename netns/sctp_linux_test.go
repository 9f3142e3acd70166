package netns

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"net"
	"testing"
	"time"
)

// SCTP reaches the pod, with its checksum right, as far as the kernel can translate it.
// It need not have sockets for it: here are none.
func TestPublishSCTP(t *testing.T) {
	inLab(t, func(l *lab) error {
		pub := Publication{addrA, []Port{mustParsePort("8080:80/sctp")}}
		if err := l.replace(pub); err != nil {
			return err
		}
		if err := CanTranslate(SCTP); err != nil {
			if !errors.Is(err, ErrNotSupported) {
				t.Error(err)
			}
			t.Log(err)
			return nil
		}
		var inside, outside net.PacketConn
		err := errors.Join(
			l.pods[0].Do(func() (err error) {
				inside, err = net.ListenPacket("ip4:132", addrA.IP.String())
				return err
			}),
			l.outside.Do(func() (err error) {
				outside, err = net.ListenPacket("ip4:132", machine)
				return err
			}))
		if err != nil {
			return err
		}
		defer inside.Close()
		defer outside.Close()
		if _, err := outside.WriteTo(sctpInit(5000, 8080), &net.IPAddr{IP: net.ParseIP(hostOutside)}); err != nil {
			return err
		}
		_ = inside.SetReadDeadline(time.Now().Add(3 * time.Second))
		b := make([]byte, 200)
		n, from, err := inside.ReadFrom(b)
		if err != nil {
			return err
		}
		if from.String() != machine || string(b[:n]) != string(sctpInit(5000, 80)) {
			t.Errorf("from %s: %x, want %x", from, b[:n], sctpInit(5000, 80))
		}
		return nil
	})
}

// sctpInit is the packet that begins an association, RFC 9260.
func sctpInit(from, to uint16) []byte {
	b := make([]byte, 32)
	binary.BigEndian.PutUint16(b[0:], from)
	binary.BigEndian.PutUint16(b[2:], to)
	b[12] = 1                                // INIT
	binary.BigEndian.PutUint16(b[14:], 20)   // length of the chunk
	binary.BigEndian.PutUint32(b[16:], 1)    // initiate tag
	binary.BigEndian.PutUint32(b[20:], 8192) // window
	binary.BigEndian.PutUint16(b[24:], 1)    // streams out
	binary.BigEndian.PutUint16(b[26:], 1)    // and in
	binary.BigEndian.PutUint32(b[28:], 1)    // TSN
	binary.LittleEndian.PutUint32(b[8:], crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	return b
}
