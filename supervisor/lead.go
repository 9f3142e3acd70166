package supervisor

import (
	"context"
	"errors"
)

// Lead makes containers, and has the pod's supervisor lead them. It returns when the
// supervisor has begun. If a container cannot be made there is none of them.
//
// A pod has one life. It is led again from the beginning when the pod is stopped and started.
func (p *Pod) Lead(ctx context.Context, life Life, specs []Spec) error {
	_ = ctx
	_, _ = life, specs
	return errors.ErrUnsupported
}
