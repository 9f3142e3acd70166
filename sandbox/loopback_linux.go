package sandbox

import (
	"github.com/podbox/podbox/netns"
)

// What is published at ::1 follows from records and claims, as the rules do, and is kept
// under the same lock. Not every host can have it; then ::1 refuses, and the rest is there.

// addLoopback has ::1 lead to ports of a pod. It reports false if all must be made anew.
func (rt *Runtime) addLoopback(pub netns.Publication) (done bool, err error) {
	if !rt.loopback.Wants(pub) {
		return true, nil
	}
	done, err = rt.loopback.Add(pub)
	if incapable(err) {
		rt.log.Debug("no port is reached by ::1", "error", err)
		return true, nil
	}
	return done, err
}

// replaceLoopback makes anew what ::1 leads to.
func (rt *Runtime) replaceLoopback(pods []netns.Publication) error {
	err := rt.loopback.Replace(pods)
	if incapable(err) {
		rt.log.Debug("no port is reached by ::1", "error", err)
		return nil
	}
	return err
}
