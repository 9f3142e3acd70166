package cni

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

// Where others look for networks and plugins too, and keep what they have attached.
const (
	DefaultConfDir  = "/etc/cni/net.d"
	DefaultCacheDir = "/var/lib/cni"
)

// DefaultPluginDirs returns where distributions have plugins.
func DefaultPluginDirs() []string {
	return []string{"/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"}
}

// DefaultTime bounds one operation on one network, with all plugins of it.
const DefaultTime = 30 * time.Second

// A Driver says where networks and plugins are. It is pure data; the zero value is the
// default.
type Driver struct {
	// ConfDir has the files that describe networks: *.conflist, *.conf, *.json. Empty:
	// DefaultConfDir.
	ConfDir string `json:"confDir,omitempty"`
	// PluginDirs are searched for plugins, in this order. Empty: DefaultPluginDirs.
	PluginDirs []string `json:"pluginDirs,omitempty"`
	// CacheDir is where libcni keeps results, for plugins to be told them again. It is
	// best shared by all runtimes: what is in there nobody takes for garbage. Empty:
	// DefaultCacheDir.
	CacheDir string `json:"cacheDir,omitempty"`
	// Time bounds one operation on one network. 0: DefaultTime.
	Time time.Duration `json:"time,omitempty"`
}

// WithDefaults returns d with its zero values replaced by what they stand for.
func (d Driver) WithDefaults() Driver {
	if d.ConfDir == "" {
		d.ConfDir = DefaultConfDir
	}
	if len(d.PluginDirs) == 0 {
		d.PluginDirs = DefaultPluginDirs()
	}
	if d.CacheDir == "" {
		d.CacheDir = DefaultCacheDir
	}
	if d.Time == 0 {
		d.Time = DefaultTime
	}
	return d
}

// IsZero reports whether d is the default.
func (d Driver) IsZero() bool {
	return d.ConfDir == "" && len(d.PluginDirs) == 0 && d.CacheDir == "" && d.Time == 0
}

// Validate reports the first wrong value; it looks at nothing but d.
func (d Driver) Validate() error {
	d = d.WithDefaults()
	for _, dir := range append([]string{d.ConfDir, d.CacheDir}, d.PluginDirs...) {
		// Plugins are told them in a list with colons between.
		if !filepath.IsAbs(dir) || strings.ContainsAny(dir, ":\x00") {
			return fmt.Errorf("CNI directory %q: %w: want an absolute path without a colon", dir, ErrInvalid)
		}
	}
	if d.Time < 0 {
		return fmt.Errorf("CNI time %v: %w: want more than 0", d.Time, ErrInvalid)
	}
	return nil
}
