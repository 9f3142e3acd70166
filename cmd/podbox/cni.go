package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/podbox/podbox/netns/cni"
)

// cniFlags say where CNI networks and their plugins are. What is not given is what the
// variables say that cnitool and nerdctl go by.
type cniFlags struct {
	confDir    string
	pluginDirs []string
	timeout    time.Duration
}

func (f *cniFlags) add(fl *pflag.FlagSet) {
	fl.StringVar(&f.confDir, "cni-conf-dir", "", "`directory` of the files that describe CNI networks (default $NETCONFPATH or "+cni.DefaultConfDir+")")
	fl.DurationVar(&f.timeout, "cni-timeout", cni.DefaultTime, "`time` after which CNI plugins of one network are killed, and undone")
	fl.StringArrayVar(&f.pluginDirs, "cni-plugin-dir", nil, "`directory` of CNI plugins, may be repeated (default $CNI_PATH or "+strings.Join(cni.DefaultPluginDirs(), ", ")+")")
}

// driver returns what the flags and the environment say. A path counts from the working
// directory.
func (f *cniFlags) driver() (cni.Driver, error) {
	d := cni.Driver{ConfDir: f.confDir, PluginDirs: f.pluginDirs, Time: f.timeout}
	if d.ConfDir == "" {
		d.ConfDir = os.Getenv("NETCONFPATH")
	}
	if len(d.PluginDirs) == 0 {
		for _, dir := range filepath.SplitList(os.Getenv("CNI_PATH")) {
			if dir != "" {
				d.PluginDirs = append(d.PluginDirs, dir)
			}
		}
	}
	if f.timeout <= 0 {
		return d, fmt.Errorf("--cni-timeout %v: %w: want more than 0, such as 1m", f.timeout, cni.ErrInvalid)
	}
	var errs []error
	abs := func(dir string) string {
		dir, err := filepath.Abs(dir)
		errs = append(errs, err)
		return dir
	}
	if d.ConfDir != "" {
		d.ConfDir = abs(d.ConfDir)
	}
	for i, dir := range d.PluginDirs {
		d.PluginDirs[i] = abs(dir)
	}
	return d, errors.Join(errs...)
}

// completeNetwork completes --network, with the names of the CNI networks that there are.
func (f *cniFlags) completeNetwork(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	words := []cobra.Completion{"pod", "none", "host", "ns:"}
	if d, err := f.driver(); err == nil && d.Validate() == nil {
		networks, _ := d.Networks()
		for _, n := range networks {
			words = append(words, "cni:"+n.Name)
		}
	}
	return words, cobra.ShellCompDirectiveNoFileComp
}

// statusTime bounds what doctor asks of one network.
const statusTime = 10 * time.Second

// wantCNI asks each network that there is whether its plugins are there, know its version, and
// could connect a pod now. To have none is no fault.
func (f *cniFlags) wantCNI(ctx context.Context) check {
	c := check{Name: "CNI networks", Status: "ok"}
	d, err := f.driver()
	if err == nil {
		d.Time = min(d.Time, statusTime)
		err = d.Validate()
	}
	var networks []*cni.Network
	var names []string
	if err == nil {
		networks, err = d.Networks()
	}
	errs := []error{err}
	for _, n := range networks {
		names = append(names, n.Name)
		errs = append(errs, d.Status(ctx, n))
	}
	if err = errors.Join(errs...); err == nil {
		c.Detail = strings.Join(names, ", ")
		return c
	}
	c.Status, c.Detail = "warn", strings.ReplaceAll(err.Error(), "\n", "; ")
	switch {
	case errors.Is(err, cni.ErrNoPlugin):
		c.Cure = "apt-get install containernetworking-plugins, or tell where they are by --cni-plugin-dir"
	case errors.Is(err, cni.ErrUnsafe):
		c.Cure = "let root alone write there: chown root, chmod go-w"
	default:
		c.Cure = "correct what is in " + d.WithDefaults().ConfDir
	}
	return c
}
