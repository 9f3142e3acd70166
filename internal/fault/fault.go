// Package fault has the errors that all parts of podbox share: whoever embeds some of
// them matches these by the names of any.
package fault

import "errors"

var (
	// ErrInvalid is matched by errors about wrong values.
	ErrInvalid = errors.New("invalid value")
	// ErrNotSupported is matched by errors about what is not acted on.
	ErrNotSupported = errors.New("not supported yet")
)
