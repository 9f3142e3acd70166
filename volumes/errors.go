package volumes

import (
	"errors"
	"fmt"

	"github.com/podbox/podbox/internal/fault"
)

// Errors that callers may match with errors.Is.
var (
	ErrInvalid      = fault.ErrInvalid
	ErrNotSupported = fault.ErrNotSupported
	ErrWrongType    = errors.New("wrong type of file")
	ErrEscapes      = errors.New("leads out of the volume")
	ErrTooDeep      = errors.New("directories nested too deep")
	ErrBusy         = errors.New("something is mounted there")
)

func invalid(field, value, want string) error {
	return fmt.Errorf("%s %q: %w: %s", field, value, ErrInvalid, want)
}
