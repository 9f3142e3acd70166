package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/podbox/podbox/internal/names"
	"github.com/podbox/podbox/internal/nsfs"
	"github.com/podbox/podbox/internal/proc"
	"github.com/podbox/podbox/netns"
	"github.com/podbox/podbox/netns/cni"
)

// A State is where a pod is in its life; see the package documentation.
type State string

const (
	Created  State = "created"
	Running  State = "running"
	Degraded State = "degraded"
	Stopped  State = "stopped"
	Removing State = "removing"
	Broken   State = "broken"
	// Paused is never on record: a pod that runs is found to be so.
	Paused State = "paused"
)

// recordVersion is that of the format of records.
const recordVersion = 1

// A record is what is known of a pod, as a file. Its State is what was last
// intended; what is true is found by looking (see Runtime.state).
type record struct {
	Version int       `json:"version"`
	ID      string    `json:"id"`
	Created time.Time `json:"created"`
	State   State     `json:"state"`
	Error   string    `json:"error,omitempty"` // of state broken
	Spec    Spec      `json:"spec"`
	// Changing says that somebody has begun to change the pod to what is on record, or its
	// ports, and has not ended: what is true of it may be what was before.
	Changing bool `json:"changing,omitempty"`
	// StateDir is the directory for what is kept on a disk.
	StateDir string `json:"stateDir,omitempty"`
	// Address is the pod's for as long as there is a record.
	Address netns.Address `json:"address,omitzero"`
	// CNI is by what the pod was connected to Networks, and will be again.
	CNI      cni.Driver   `json:"cni,omitzero"`
	Networks []cni.Result `json:"networks,omitempty"`
	// Rewiring says that a pod that is there already is getting a new link, or that its CNI
	// networks are being deleted or added anew: whatever it has of them is not finished.
	Rewiring bool `json:"rewiring,omitempty"`
	// Rewired says that the pod has had another link since it was stopped last: what its link
	// tells of it is not all.
	Rewired bool `json:"rewired,omitempty"`
	// Pause holds, or held, Namespaces.
	Pause      proc.Identity         `json:"pause,omitzero"`
	Namespaces map[Namespace]nsfs.ID `json:"namespaces,omitempty"`
}

const (
	recordFile = "record.json"
	maxRecord  = 8 << 20 // bytes; a spec may have files in it
)

// link is the name of the host's end of the pod's veth pair.
func (r *record) link() string { return netns.LinkName(r.ID) }

// wired reports whether the pod has a link to the host.
func (r *record) wired() bool { return r.Spec.Network.Mode == netns.ModePod }

// plugged reports whether the pod's network is that of CNI plugins.
func (r *record) plugged() bool { return r.Spec.Network.Mode == netns.ModeCNI }

// limitsLink reports whether the pod's link has a bandwidth that is ours to see to.
func (r *record) limitsLink() bool { return r.wired() && r.Spec.Bandwidth != (netns.Bandwidth{}) }

// pluginTime bounds how long the plugins of all the pod's networks may take.
func (r *record) pluginTime() time.Duration {
	return time.Duration(len(r.Spec.Network.Names)) * r.CNI.WithDefaults().Time
}

// publishes reports whether the host's rules have ports of the pod.
func (r *record) publishes() bool { return r.wired() && len(r.Spec.Ports) > 0 }

// readRecord reads the record in a pod's directory. Whoever could write there is
// not trusted to have written sense.
func readRecord(dir string) (*record, error) {
	path := filepath.Join(dir, recordFile)
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxRecord+1))
	if err == nil {
		var r *record
		if r, err = parseRecord(b, filepath.Base(dir)); err == nil {
			return r, nil
		}
	}
	return nil, fmt.Errorf("%s: %w: %w", path, ErrBadRecord, err)
}

// parseRecord reads the record of the pod with the given ID.
func parseRecord(b []byte, id string) (*record, error) {
	if len(b) > maxRecord {
		return nil, errors.New("larger than 8 MiB")
	}
	r := new(record)
	if err := json.Unmarshal(b, r); err != nil {
		return nil, err
	}
	return r, r.check(id)
}

// check reports why a record cannot be that of the pod whose directory it was
// found in. What is derived from a record (names of links, processes to signal)
// relies on it.
func (r *record) check(id string) error {
	switch {
	case r.Version != recordVersion:
		return fmt.Errorf("version %d, want %d", r.Version, recordVersion)
	case r.ID != id || !names.IsID(id):
		return errors.New("not of this pod")
	case r.Spec.Name == "" || r.Spec.Network.Mode == "":
		return errors.New("incomplete")
	}
	if r.StateDir != "" && (!filepath.IsAbs(r.StateDir) || filepath.Clean(r.StateDir) != r.StateDir) {
		return fmt.Errorf("state directory %q", r.StateDir)
	}
	if err := r.CNI.Validate(); err != nil {
		return err
	}
	for i := range r.Networks {
		if err := r.Networks[i].Validate(); err != nil {
			return err
		}
	}
	switch r.State {
	case Created, Running, Stopped, Removing, Broken:
	default:
		return fmt.Errorf("unknown state %q", r.State)
	}
	return r.Spec.Validate()
}

// write replaces the record in a pod's directory: it is there whole, or the old
// one is.
func (r *record) write(dir string) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	// What could not be read again is not written: the pod would be lost. Later
	// a record only grows by what is found out, never by what is asked for.
	if most := maxRecord - 64<<10; r.State == Created && len(b) > most {
		return fmt.Errorf("record: %w: the pod's description has %d bytes, at most %d can be kept", ErrInvalid, len(b), most)
	}
	return replaceFile(filepath.Join(dir, recordFile), append(b, '\n'), 0o600)
}

// replaceFile writes a file under another name and renames it. It does not sync:
// what it writes about is gone with a reboot anyway.
func replaceFile(path string, b []byte, mode os.FileMode) error {
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, b, mode); err != nil {
		os.Remove(tmp)
		return err
	}
	return os.Rename(tmp, path)
}
