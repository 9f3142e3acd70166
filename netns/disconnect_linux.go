package netns

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/spawn"
)

// disconnectTime bounds how long the kernel may take to unlist a link. It needs
// well under a millisecond unless its network lock is held by others, such as many who
// remove links at once: each holds it for RCU grace periods, which are long on a busy machine.
const disconnectTime = 25 * time.Second

// Disconnect removes a link made by Connect, and with it its other end, its
// routes and its neighbours. A link that is not there is no error.
//
// When Disconnect returns, all this is gone from view. The kernel goes on for
// some 10 to 40 ms to free the memory, after RCU grace periods that it makes the
// requesting process wait for: so a child of ours makes the request, which may
// outlive us. wait, if it is not nil, returns when it is done; it need not be
// called.
func Disconnect(link string) (wait func(), err error) {
	index := linkIndex(link)
	if index == 0 {
		return func() {}, nil
	}
	wait, err = disconnect(index, link)
	if err != nil {
		return wait, fmt.Errorf("remove link %s: %w", link, err)
	}
	return wait, nil
}

// disconnect asks for the link to be removed by its index, which is never reused:
// the request may come late, when the link is gone by itself and another has its
// name.
func disconnect(index int, link string) (func(), error) {
	s, err := nl.Subscribe(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	req := nl.NewNetlinkRequest(unix.RTM_DELLINK, unix.NLM_F_ACK)
	info := nl.NewIfInfomsg(unix.AF_UNSPEC)
	info.Index = int32(index)
	req.AddData(info)
	msg := req.Serialize()

	wait, err := detached(s.GetFd(), func(p *spawn.Program) {
		p.Call("send", unix.SYS_SENDTO, 0, spawn.Pointer(p, &msg[0]), uintptr(len(msg)), 0, 0, 0)
	})
	if err != nil {
		return nil, err
	}

	deadline := time.Now().Add(disconnectTime)
	pause := 50 * time.Microsecond
	for linkIndex(link) == index {
		if err := refusal(s.GetFd(), pause); err != nil {
			return wait, err
		}
		pause = min(2*pause, 5*time.Millisecond) // many who wait leave the processors to those who work
		if time.Now().After(deadline) {
			return wait, os.ErrDeadlineExceeded
		}
	}
	return wait, nil
}

// refusal waits for an answer of the kernel and returns the error in it. The
// answer that all is done comes only at the very end.
func refusal(socket int, d time.Duration) error {
	ts := unix.NsecToTimespec(d.Nanoseconds())
	n, err := unix.Ppoll([]unix.PollFd{{Fd: int32(socket), Events: unix.POLLIN}}, &ts, nil)
	if err == unix.EINTR || n == 0 {
		return nil
	}
	if err != nil {
		return os.NewSyscallError("ppoll", err)
	}
	buf := make([]byte, 4096)
	n, _, err = unix.Recvfrom(socket, buf, unix.MSG_DONTWAIT)
	if err != nil {
		return os.NewSyscallError("recvfrom", err)
	}
	if n < unix.SizeofNlMsghdr+4 {
		return errors.New("short answer")
	}
	code := int32(nl.NativeEndian().Uint32(buf[unix.SizeofNlMsghdr:]))
	if code == 0 || -code == int32(unix.ENODEV) {
		return nil
	}
	return unix.Errno(-code)
}
