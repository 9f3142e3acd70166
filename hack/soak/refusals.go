//go:build linux

package main

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// refusals are what podbox may say when it fails: each is an answer to what somebody else
// did meanwhile, or to something that cannot be. Whatever else it says is a fault.
var refusals = compile(
	// Somebody else was quicker.
	`: no such pod`, `: no such container`, `: pod exists`, `: container exists`,
	`pod is not running`, `container is not running`, `pod is paused`, `container is paused`, `container is running`,
	`pod has running programs`, `the pod does not publish the port`,
	`publishes it`, `listens on it`, `(secret|configmap)/[a-z0-9-]+: there is none`,
	// What cannot be.
	`ports need network pod`, `(policy|bandwidth): invalid value: it (needs|can be changed with) network pod`, `cannot be changed while the pod is there`, `given twice`,
	`level=WARN msg="addresses of the last time are not to be had"`, // another pod has them by now
	// Our CNI plugin was wild.
	`soakledger: (not today|on second thoughts, no|not now)`, `soakledger: (ADD|DEL|CHECK): not done after 2s`,
	// A pod of which a program was killed, or that has one that fails.
	`wait for pod "[a-z0-9-]+": it has failed`, `wait for pod "[a-z0-9-]+": not ready after 2s`,
	// Somebody was killed, at a moment at which he was needed.
	`process is gone`, `/proc/[0-9]+/ns/[a-z]+: no such (file|process)`, `child ended before it executed`, `setns: no such process`, `(limit link pbx[0-9a-f]+|wire eth0 in the pod): no such device`,
	`wire pbx[0-9a-f]+: set up: invalid argument`,
)

func compile(texts ...string) (all []*regexp.Regexp) {
	for _, text := range texts {
		all = append(all, regexp.MustCompile(text))
	}
	return all
}

func expected(line string) bool {
	line = strings.TrimSpace(line)
	return line == "" || strings.HasPrefix(line, "hint:") || slices.ContainsFunc(refusals, func(r *regexp.Regexp) bool { return r.MatchString(line) })
}

var variable = regexp.MustCompile(`soak-\S+|[0-9a-f]{12,}|[0-9]+`)

// noteText counts the forms of what podbox says.
func (s *soak) noteText(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.texts[variable.ReplaceAllString(text, "_")]++
}

func (s *soak) printTexts() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, text := range slices.Sorted(maps.Keys(s.texts)) {
		fmt.Printf("%6d  %s\n", s.texts[text], text)
	}
}
