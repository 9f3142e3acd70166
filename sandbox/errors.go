package sandbox

import (
	"errors"

	"github.com/podbox/podbox/netns"
)

// Errors that callers may match with errors.Is.
var (
	ErrNotFound     = errors.New("no such pod")
	ErrExists       = errors.New("pod exists")
	ErrAmbiguous    = errors.New("ambiguous pod ID")
	ErrNotRunning   = errors.New("pod is not running")
	ErrPaused       = errors.New("pod is paused")
	ErrNoVolume     = errors.New("the pod has no such volume")
	ErrClaimInUse   = errors.New("claim is in use")
	ErrNoPort       = errors.New("the pod does not publish the port")
	ErrBusy         = errors.New("pod has running programs")
	ErrBadRecord    = errors.New("bad record")
	ErrUnsafeRoot   = errors.New("unsafe directory")
	ErrInvalid      = netns.ErrInvalid
	ErrNotSupported = netns.ErrNotSupported
)
