package ebpf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/testenv"
)

// What is written is what the kernel's instruction-set.rst says.
func TestAssemble(t *testing.T) {
	c := new(Code)
	c.Mov(R6, R1)
	c.Load(Word, R2, R6, 8)
	c.If(R2, NotEqual, -1, "out")
	c.StoreImm(Half, R10, -4, 0x1234)
	c.NetHalf(R2)
	c.Label("out")
	c.MovImm(R0, 1)
	c.Exit()
	got, err := c.assemble()
	if err != nil {
		t.Fatal(err)
	}
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Skip("the bytes below are those of a little-endian machine")
	}
	want := []byte{
		0xbf, 0x16, 0, 0, 0, 0, 0, 0,
		0x61, 0x62, 8, 0, 0, 0, 0, 0,
		0x55, 0x02, 2, 0, 0xff, 0xff, 0xff, 0xff,
		0x6a, 0x0a, 0xfc, 0xff, 0x34, 0x12, 0, 0,
		0xdc, 0x02, 0, 0, 16, 0, 0, 0,
		0xb7, 0x00, 0, 0, 1, 0, 0, 0,
		0x95, 0x00, 0, 0, 0, 0, 0, 0,
	}
	if !bytes.Equal(got, want) {
		t.Errorf("got\n%x, want\n%x", got, want)
	}
	c.If(R0, Equal, 0, "nowhere")
	if _, err := c.assemble(); err == nil || !strings.Contains(err.Error(), `"nowhere"`) {
		t.Errorf("a jump to nowhere: %v", err)
	}
}

// A program that the kernel does not let run is refused with the reason.
func TestLoadRefuses(t *testing.T) {
	testenv.NeedRoot(t)
	c := new(Code)
	c.Load(Double, R0, R1, 4096) // beyond the context
	c.Exit()
	p, err := Load("podbox_test", Connect6, c)
	if !errors.Is(err, unix.EACCES) || !strings.Contains(err.Error(), "invalid") {
		t.Errorf("%v, %v, want EACCES and why", p, err)
	}
	p.Close()
}

// A map gives up what it has been told to.
func TestMap(t *testing.T) {
	testenv.NeedRoot(t)
	m, err := CreateMap(Trie, "podbox_test", 8, 4, 10)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	key, value := []byte{32, 0, 0, 0, 1, 2, 3, 4}, []byte{5, 6, 7, 8}
	for range 2 {
		if err := m.Put(key, value); err != nil {
			t.Error(err)
		}
	}
	for range 2 {
		if err := m.Delete(key); err != nil {
			t.Error(err)
		}
	}
	if err := m.Put([]byte{33, 0, 0, 0, 1, 2, 3, 4}, value); !errors.Is(err, unix.EINVAL) {
		t.Errorf("a prefix longer than the key: %v", err)
	}
	for range 2 {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}
}
