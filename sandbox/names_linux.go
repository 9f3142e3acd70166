package sandbox

import (
	"context"
	"slices"

	"github.com/podbox/podbox/internal/steps"
)

// Names are what members find in resolv.conf and hosts.
type Names struct {
	DNS   DNS
	Hosts []Host
}

// namesStep writes a pod's files over. Members have what there was before mounted, too:
// in a pod with the host's network a file that is not the pod's any more becomes like the
// host's.
func (rt *Runtime) namesStep(next, rec *record) steps.Step {
	dir := rt.podDir(rec.ID)
	files := slices.DeleteFunc(union(rec.Spec.files(), next.Spec.files()), func(name string) bool { return name == "hostname" })
	return steps.Step{
		Name: "names",
		Text: "write hosts, resolv.conf",
		Back: "write them as they were",
		Do:   func(context.Context) error { return writeMemberFiles(dir, next, files) },
		Undo: func(context.Context) error { return writeMemberFiles(dir, rec, files) },
	}
}
