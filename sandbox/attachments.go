package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/podbox/podbox/internal/replace"
	"github.com/podbox/podbox/netns/cni"
)

// attachments are what CNI plugins have done for a pod, or may have: what it takes to undo
// it. What they make is not the kernel's only, leases of addresses are files that
// outlive a reboot. So it is in the pod's state directory, on the disk, from before the
// first plugin is run until after the last; there gc finds it when the pod's record and its
// namespaces are long gone.
type attachments struct {
	Driver      cni.Driver        `json:"driver"`
	Attachments []*cni.Attachment `json:"attachments"`
}

const (
	cniDir         = "cni" // in a pod's state directory
	attachmentFile = "attachments.json"
	maxAttachments = 64 << 20 // bytes
)

func attachmentsOf(rec *record) string { return filepath.Join(stateOf(rec), cniDir, attachmentFile) }

// attachments reads what plugins have done for a pod: nothing if none has been run.
func (rt *Runtime) attachments(rec *record) (*attachments, error) {
	all := &attachments{Driver: rec.CNI}
	if rec.StateDir == "" {
		return all, nil
	}
	f, err := os.Open(attachmentsOf(rec))
	if errors.Is(err, fs.ErrNotExist) {
		return all, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxAttachments+1))
	if err == nil {
		err = all.parse(b, rec.ID)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", f.Name(), ErrBadRecord, err)
	}
	// Plugins may have been moved, and the user has said where to.
	for _, dir := range rt.cni.WithDefaults().PluginDirs {
		if !slices.Contains(all.Driver.PluginDirs, dir) {
			all.Driver.PluginDirs = append(all.Driver.PluginDirs, dir)
		}
	}
	return all, nil
}

// parse reads what was written for the pod with the given ID. Whoever could write there is
// not trusted to have written sense.
func (all *attachments) parse(b []byte, id string) error {
	if len(b) > maxAttachments {
		return fmt.Errorf("larger than %d bytes", maxAttachments)
	}
	if err := json.Unmarshal(b, all); err != nil {
		return err
	}
	if err := all.Driver.Validate(); err != nil {
		return err
	}
	all.Driver = all.Driver.WithDefaults()
	for _, a := range all.Attachments {
		if a == nil {
			return errors.New("an attachment is missing")
		}
		if err := a.Validate(id); err != nil {
			return err
		}
	}
	return nil
}

// with returns all with a in place of what there is of the same interface, or as the last.
func (all *attachments) with(a *cni.Attachment) *attachments {
	return &attachments{all.Driver, append(all.without(a).Attachments, a)}
}

func (all *attachments) without(a *cni.Attachment) *attachments {
	return &attachments{all.Driver, slices.DeleteFunc(slices.Clone(all.Attachments), func(o *cni.Attachment) bool {
		return o.Interface == a.Interface
	})}
}

// write keeps them, or forgets them if there are none.
func (all *attachments) write(rec *record) error {
	if len(all.Attachments) == 0 {
		return removeAttachments(rec)
	}
	b, err := json.Marshal(all)
	if err != nil {
		return err
	}
	path := attachmentsOf(rec)
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return replace.File(filepath.Dir(path), path, append(b, '\n'))
}

func removeAttachments(rec *record) error { return os.RemoveAll(filepath.Dir(attachmentsOf(rec))) }

// noteAttachment keeps an attachment. Of one to be added that is done before.
func (rt *Runtime) noteAttachment(rec *record, a *cni.Attachment) error {
	all, err := rt.attachments(rec)
	if err != nil {
		return err
	}
	return all.with(a).write(rec)
}
