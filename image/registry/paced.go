package registry

import (
	"context"
	"fmt"
	"io"
	"time"
)

// slowest is how many bytes a second must come.
const slowest = 1 << 10

// A paced body ends if it comes too slowly. Only the time counts in which it was waited
// for: whoever reads may take as long as it wants for what it has.
type paced struct {
	body   io.ReadCloser
	cancel context.CancelCauseFunc
	window time.Duration

	waited time.Duration // in this window
	came   int64         // in this window
}

func (p *paced) Read(b []byte) (int, error) {
	began := time.Now()
	timer := time.AfterFunc(p.window, func() { p.cancel(ErrStalled) })
	n, err := p.body.Read(b)
	late := !timer.Stop()
	p.waited += time.Since(began)
	p.came += int64(n)
	if err != nil && err != io.EOF && late {
		return n, fmt.Errorf("%w: nothing came for %v", ErrStalled, p.window)
	}
	if p.waited >= p.window {
		if need := int64(float64(slowest) * p.waited.Seconds()); p.came < need && err == nil {
			p.cancel(ErrStalled)
			return n, fmt.Errorf("%w: %d bytes in %v", ErrStalled, p.came, p.waited.Round(time.Second))
		}
		p.waited, p.came = 0, 0
	}
	return n, err
}

func (p *paced) Close() error {
	err := p.body.Close()
	p.cancel(nil)
	return err
}
