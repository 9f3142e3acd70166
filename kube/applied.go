package kube

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	corev1 "k8s.io/api/core/v1"

	"github.com/podbox/podbox/internal/replace"
	"github.com/podbox/podbox/sandbox"
	"github.com/podbox/podbox/volumes"
)

// An applied is what is kept of a pod that was applied, as a file in the pod's directory.
type applied struct {
	Version int         `json:"version"`
	UID     string      `json:"uid"`
	Pod     *corev1.Pod `json:"pod"` // as it was applied, with its defaults
	// Files are digests of what is in the pod's volumes of files, by their names.
	Files map[string]string `json:"files,omitempty"`
}

const (
	appliedVersion = 1
	appliedFile    = "kube.json"
	// uidAnnotation is on all pods that apply has made, from their beginning on.
	uidAnnotation = ourAnnotations + "uid"
)

// readApplied returns nil if the pod was not applied, or only began to be.
func readApplied(pod *sandbox.Sandbox) (*applied, error) {
	b, err := os.ReadFile(pod.File(appliedFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	a := new(applied)
	if err := json.Unmarshal(b, a); err != nil || a.Version != appliedVersion || a.Pod == nil {
		return nil, fmt.Errorf("%s: %w", pod.File(appliedFile), sandbox.ErrBadRecord)
	}
	return a, nil
}

func (a *applied) write(pod *sandbox.Sandbox) error {
	b, err := json.Marshal(a)
	if err != nil {
		return err
	}
	return replace.File(pod.File(""), pod.File(appliedFile), b)
}

// digests returns those of volumes of files.
func digests(vs []volumes.Volume) map[string]string {
	var out map[string]string
	for _, v := range vs {
		if v.Files == nil {
			continue
		}
		if out == nil {
			out = map[string]string{}
		}
		b, _ := json.Marshal(v.Files) // of plain data
		sum := sha256.Sum256(b)
		out[v.Name] = hex.EncodeToString(sum[:])
	}
	return out
}
