package main

import (
	"errors"
	"sync"
)

// atOnce is how many pods a command is about at the same time, if that is more than
// one after the other: much of what ends a pod is waiting, for its programs and for the
// kernel, and one look at all processes serves all who want one.
const atOnce = 16

// together calls f for each of refs, atOnce of them at a time, and returns the errors in
// their order.
func together(refs []string, f func(ref string) error) error {
	errs := make([]error, len(refs))
	var wg sync.WaitGroup
	turns := make(chan struct{}, atOnce)
	for i, ref := range refs {
		turns <- struct{}{}
		wg.Go(func() {
			defer func() { <-turns }()
			errs[i] = f(ref)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
