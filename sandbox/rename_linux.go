package sandbox

import (
	"context"
	"slices"

	"github.com/podbox/podbox/internal/flock"
)

// UpdateNames replaces the pod's DNS and Hosts. Members that run see it at once in
// their resolv.conf and hosts, those on the host's filesystem too. One that uses the
// host's file, as in a pod with the host's network, does so until it ends. What pods
// have of the host's own files is read again. To repeat it is no harm.
func (s *Sandbox) UpdateNames(ctx context.Context, dns DNS, hosts []Host) error {
	return s.locked(ctx, "update names of", func(rec *record, _ *flock.Lock) error {
		before := rec.Spec.files()
		rec.Spec.DNS, rec.Spec.Hosts = dns, hosts
		if err := rec.Spec.Validate(); err != nil {
			return err
		}
		dir := s.rt.podDir(s.id)
		// The record first: start makes the files of it again.
		if err := rec.write(dir); err != nil {
			return err
		}
		// Members have mounted what there was before, too.
		files := slices.DeleteFunc(union(before, rec.Spec.files()), func(name string) bool { return name == "hostname" })
		return writeMemberFiles(dir, rec, files)
	})
}
