package kubecli

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"

	"github.com/podbox/podbox/image/ingest"
	"github.com/podbox/podbox/image/registry"
)

// A progress shows how an image comes in: bars on a terminal, else a line for each
// step.
type progress struct {
	ctx   context.Context
	lines io.Writer
	out   *os.File
	fancy bool // out is a terminal

	mu     sync.Mutex
	bars   *mpb.Progress // nil until there is something to show
	layers map[int]*layerBar
}

// A layerBar is what is shown of a layer. Its bar asks for the stage at times when
// whoever holds the lock of the progress may wait for the bar.
type layerBar struct {
	bar   *mpb.Bar // nil without a terminal
	stage atomic.Value
}

func newProgress(ctx context.Context, out *os.File, quiet bool) *progress {
	p := &progress{ctx: ctx, lines: out, out: out, layers: map[int]*layerBar{}}
	if quiet {
		p.lines = io.Discard
	} else {
		p.fancy = term.IsTerminal(int(out.Fd()))
	}
	return p
}

// step tells of what is to come.
func (p *progress) step(s registry.Step) {
	switch s.Kind {
	case registry.Asking:
		fmt.Fprintf(p.lines, "Trying to pull %s...\n", s.Reference)
	case registry.Fetching:
		if s.From != s.Reference {
			fmt.Fprintf(p.lines, "Found at %s\n", s.From)
		}
	case registry.Current:
		fmt.Fprintf(p.lines, "Image is up to date\n")
	}
}

// shortDigest is as much of a digest as people want to see.
func shortDigest(d string) string {
	d = strings.TrimPrefix(d, "sha256:")
	return d[:min(len(d), 12)]
}

// layer tells how far a layer is.
func (p *progress) layer(l ingest.Progress) {
	shown := p.shown(l)
	before := shown.stage.Swap(l.Stage)
	if shown.bar == nil {
		switch {
		case l.Stage == before:
		case l.Stage == ingest.Present:
			fmt.Fprintf(p.lines, "Copying blob %s skipped: already exists\n", shortDigest(l.Layer))
		case l.Stage == ingest.Done:
			fmt.Fprintf(p.lines, "Copying blob %s done\n", shortDigest(l.Layer))
		}
		return
	}
	switch l.Stage {
	case ingest.Unpacking:
		shown.bar.SetCurrent(min(l.Done, max(l.Total-1, 0))) // whole when it is on the disk
	case ingest.Present, ingest.Done:
		total := max(l.Total, 1)
		shown.bar.SetTotal(total, false)
		shown.bar.SetCurrent(total)
		shown.bar.SetTotal(total, true)
	}
}

func (p *progress) shown(l ingest.Progress) *layerBar {
	p.mu.Lock()
	defer p.mu.Unlock()
	shown := p.layers[l.Index]
	if shown != nil {
		return shown
	}
	shown = new(layerBar)
	shown.stage.Store(ingest.Stage(""))
	p.layers[l.Index] = shown
	if !p.fancy {
		return shown
	}
	if p.bars == nil {
		p.bars = mpb.NewWithContext(p.ctx, mpb.WithOutput(p.out), mpb.WithWidth(40))
	}
	state := func(decor.Statistics) string {
		switch shown.stage.Load() {
		case ingest.Present:
			return "skipped: already exists"
		case ingest.Syncing:
			return "writing"
		case ingest.Done:
			return "done"
		}
		return ""
	}
	shown.bar = p.bars.AddBar(max(l.Total, 1),
		mpb.BarPriority(l.Index),
		mpb.PrependDecorators(decor.Name("Copying blob "+shortDigest(l.Layer)+" ")),
		mpb.AppendDecorators(decor.CountersKiloByte("% .1f / % .1f "), decor.Any(state)),
	)
	return shown
}

// close leaves what is shown as it is.
func (p *progress) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.layers {
		if s := l.stage.Load(); l.bar != nil && s != ingest.Done && s != ingest.Present {
			l.bar.Abort(false)
		}
	}
	if p.bars != nil {
		p.bars.Wait()
	}
}
