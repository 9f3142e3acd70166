//go:build linux

// Runcshim is runc for a root that lacks CAP_SYS_RESOURCE: it takes from a bundle,
// and from a process that is to join a container, what only that capability may
// set, and then becomes runc. bench-peers.sh puts it under podman on such machines.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// runc is the runtime to become. The linker sets it: podman hands down neither an
// argument nor an environment variable of ours.
var runc = "/usr/sbin/runc"

func main() {
	err := edit(os.Args[1:])
	if err == nil {
		err = &os.PathError{Op: "exec", Path: runc, Err: unix.Exec(runc, os.Args, os.Environ())}
	}
	fmt.Fprintln(os.Stderr, "runcshim:", err)
	os.Exit(1)
}

// edit rewrites the files that a command line of runc names: --bundle DIR of
// create and run, --process FILE of exec.
func edit(args []string) error {
	for i, arg := range args {
		name, value, ok := strings.Cut(arg, "=")
		if !ok && i+1 < len(args) {
			value = args[i+1]
		}
		var err error
		switch name {
		case "-b", "--bundle", "-bundle":
			err = rewrite(filepath.Join(value, "config.json"), func(config map[string]json.RawMessage) error {
				var process map[string]json.RawMessage
				if err := json.Unmarshal(config["process"], &process); err != nil {
					return err
				}
				unlimit(process)
				var err error
				config["process"], err = json.Marshal(process)
				return err
			})
		case "-p", "--process", "-process":
			err = rewrite(value, func(process map[string]json.RawMessage) error {
				unlimit(process)
				return nil
			})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// unlimit takes what needs the capability from an OCI process.
func unlimit(process map[string]json.RawMessage) {
	delete(process, "rlimits")
	delete(process, "oomScoreAdj")
}

// rewrite applies change to the JSON object in a file.
func rewrite(path string, change func(map[string]json.RawMessage) error) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(b, &object); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := change(object); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if b, err = json.Marshal(object); err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o600)
}
