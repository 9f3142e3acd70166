package sandbox

import (
	"context"
	"fmt"

	"github.com/podbox/podbox/internal/steps"
	"github.com/podbox/podbox/netns"
)

// limitLinkStep limits what passes the pod's link. Its undo is that of the link.
func (b *build) limitLinkStep() steps.Step {
	return steps.Step{
		Name: "bandwidth",
		Text: "limit the link: " + bandwidthText(b.rec.Spec.Bandwidth),
		Do:   func(context.Context) error { return netns.SetBandwidth(b.rec.link(), b.rec.Spec.Bandwidth) },
	}
}

func bandwidthText(b netns.Bandwidth) string {
	text := func(what string, rate uint64) string {
		if rate == 0 {
			return what + " without limit"
		}
		return what + " " + netns.FormatRate(rate) + "bit/s"
	}
	return text("ingress", b.Ingress) + ", " + text("egress", b.Egress)
}

// removeShaper removes the link through which goes what the pod sends, if there is one:
// also of a pod whose record says nothing of it, for that may have changed since.
func (rt *Runtime) removeShaper(rec *record) error {
	wait, err := netns.RemoveShaper(rec.link())
	if wait != nil {
		rt.background.Go(wait)
	}
	return err
}

// bandwidthStep changes the limits of a pod that is there.
func (rt *Runtime) bandwidthStep(next, rec *record) steps.Step {
	set := func(b netns.Bandwidth) error {
		if !netns.Connected(rec.link()) {
			return nil // it is limited when it has a link again
		}
		return netns.SetBandwidth(rec.link(), b)
	}
	return steps.Step{
		Name: "bandwidth",
		Text: "limit the link: " + bandwidthText(next.Spec.Bandwidth),
		Back: "limit it as before",
		Do:   func(context.Context) error { return set(next.Spec.Bandwidth) },
		Undo: func(context.Context) error { return set(rec.Spec.Bandwidth) },
	}
}

func (s *Spec) validateBandwidth() error {
	if s.Bandwidth != (netns.Bandwidth{}) && s.Network.Mode != netns.ModePod && s.Network.Mode != netns.ModeCNI {
		return fmt.Errorf("bandwidth: %w: it needs network pod or cni, not %s", ErrInvalid, s.Network)
	}
	return s.Bandwidth.Validate()
}
