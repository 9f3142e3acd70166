package main

import (
	"encoding/csv"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"

	"github.com/podbox/podbox/cmd/internal/systemd"
	"github.com/podbox/podbox/netns"
	"github.com/podbox/podbox/netns/cni"
	"github.com/podbox/podbox/sandbox"
)

// maxMadeBy is how many bytes of flags are kept of a pod: its annotations are for others
// too.
const maxMadeBy = 64 << 10

// note keeps in a pod's annotations by which flags it is made, for podbox generate systemd.
func (f *createFlags) note(s *sandbox.Spec, fl *pflag.FlagSet, d cni.Driver) error {
	as := map[string][]string{}
	if s.Network.Mode == netns.ModeCNI {
		// Whatever the working directory and the environment are then.
		as["cni-plugin-dir"] = d.PluginDirs
		if d.ConfDir != "" {
			as["cni-conf-dir"] = []string{d.ConfDir}
		}
	}
	b, err := json.Marshal(flagWords(fl, as))
	if err != nil || len(b) > maxMadeBy {
		return err
	}
	s.Annotations = map[string]string{systemd.MadeBy: string(b)}
	return nil
}

// words returns the words of podbox run, but the pod's name, that make the container again,
// from wherever they are said and whatever the environment is then.
func (f *runFlags) words(fl *pflag.FlagSet, args []string) ([]string, error) {
	as := map[string][]string{}
	for flag, dir := range map[string]string{"rootfs": f.rootfs, "bundle": f.bundle} {
		if dir == "" {
			continue
		}
		abs, err := filepath.Abs(dir)
		if err != nil {
			return nil, err
		}
		as[flag] = []string{abs}
	}
	if f.runtime != "" {
		path, err := findRuntime(f.runtime)
		if err != nil {
			return nil, err
		}
		if path, err = filepath.Abs(path); err != nil {
			return nil, err
		}
		as["runtime"] = []string{path}
	}
	if f.entrypoint != nil {
		as["entrypoint"] = []string{*f.entrypoint}
	}
	for _, e := range f.env {
		if !strings.Contains(e, "=") {
			value, ok := os.LookupEnv(e)
			if !ok {
				continue
			}
			e += "=" + value
		}
		as["env"] = append(as["env"], e)
	}
	for _, opt := range f.securityOpts {
		if file, ok := strings.CutPrefix(opt, "seccomp="); ok && file != "" && file != "default" && file != "unconfined" {
			abs, err := filepath.Abs(file)
			if err != nil {
				return nil, err
			}
			opt = "seccomp=" + abs
		}
		as["security-opt"] = append(as["security-opt"], opt)
	}
	words := flagWords(fl, as)
	if len(args) > 0 {
		words = append(append(words, "--"), args...)
	}
	return words, nil
}

// flagWords returns the flags of a command that were given, but those of all commands. What
// as has of a flag is said instead of its value, or though it was not given.
func flagWords(fl *pflag.FlagSet, as map[string][]string) []string {
	words := []string{}
	fl.VisitAll(func(f *pflag.Flag) {
		said, ok := as[f.Name]
		switch f.Name {
		case "root", "state-dir", "log-level", "help":
			return
		}
		if !f.Changed && !ok {
			return
		}
		values := []string{f.Value.String()}
		if list, ok := f.Value.(pflag.SliceValue); ok {
			values = list.GetSlice()
		}
		if ok || f.Name == "env" {
			values = said
		}
		for _, v := range values {
			if f.Value.Type() == "stringSlice" {
				v = commaWord(v)
			}
			if f.NoOptDefVal != "" && v == f.NoOptDefVal {
				words = append(words, "--"+f.Name)
				continue
			}
			words = append(words, "--"+f.Name+"="+v)
		}
	})
	return words
}

// commaWord writes one of values that commas part.
func commaWord(v string) string {
	var b strings.Builder
	w := csv.NewWriter(&b)
	_ = w.Write([]string{v}) // to memory
	w.Flush()
	return strings.TrimSuffix(b.String(), "\n")
}
