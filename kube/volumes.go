package kube

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/podbox/podbox/launcher"
	"github.com/podbox/podbox/volumes"
)

// volumes returns those of the pod. An image's files are no volume of the pod: those who
// want them mount the image.
func (t *translation) volumes() []volumes.Volume {
	var out []volumes.Volume
	for i := range t.pod.Spec.Volumes {
		v := &t.pod.Spec.Volumes[i]
		if v.Image != nil {
			continue
		}
		to := t.volume(v, specPath.Child("volumes").Index(i))
		if to.HostPath == nil {
			to.FSGroup = t.fsGroup()
		}
		if to.Claim != nil && to.FSGroup != nil {
			to.FSGroupPolicy = t.fsGroupPolicy()
		}
		if err := to.Validate(); err != nil {
			t.add(specPath.Child("volumes").Index(i), err.Error())
			continue
		}
		out = append(out, to)
	}
	return out
}

func (t *translation) fsGroup() *uint32 {
	c := t.pod.Spec.SecurityContext
	if c == nil || c.FSGroup == nil {
		return nil
	}
	g := uint32(*c.FSGroup)
	return &g
}

func (t *translation) fsGroupPolicy() volumes.GroupPolicy {
	if p := t.pod.Spec.SecurityContext.FSGroupChangePolicy; p != nil {
		return volumes.GroupPolicy(*p)
	}
	return volumes.GroupAlways
}

func (t *translation) volume(v *corev1.Volume, at *field.Path) volumes.Volume {
	to := volumes.Volume{Name: v.Name}
	switch {
	case v.EmptyDir != nil && v.EmptyDir.Medium == corev1.StorageMediumMemory:
		to.Memory = &volumes.Memory{Size: t.memorySize(v.EmptyDir)}
	case v.EmptyDir != nil:
		to.Disk = &volumes.Disk{Size: amount(v.EmptyDir.SizeLimit)}
	case v.Ephemeral != nil:
		to.Disk = &volumes.Disk{}
	case v.HostPath != nil:
		to.HostPath = &volumes.HostPath{Path: v.HostPath.Path, Type: hostPathType(v.HostPath)}
	case v.PersistentVolumeClaim != nil:
		to.Claim = &volumes.Claim{Name: v.PersistentVolumeClaim.ClaimName}
	default:
		to.Files = t.files(v, at)
	}
	return to
}

// memorySize is how much a volume in memory may hold: no more than all containers together
// may have, if there is such a limit.
func (t *translation) memorySize(e *corev1.EmptyDirVolumeSource) int64 {
	var sum int64
	for _, p := range places(&t.pod.Spec) {
		limit := p.c.Resources.Limits.Memory().Value()
		if limit == 0 {
			sum = 0
			break
		}
		sum += limit
	}
	if r := t.pod.Spec.Resources; r != nil {
		if limit := r.Limits.Memory().Value(); limit > 0 {
			sum = limit
		}
	}
	size := amount(e.SizeLimit)
	if size == 0 || sum != 0 && sum < size {
		size = sum
	}
	return size
}

// amount returns a quantity, or 0 if there is none.
func amount(q *resource.Quantity) int64 {
	if q == nil {
		return 0
	}
	return q.Value()
}

// bounds are those of volumes on the disk, which somebody has to look after.
func (t *translation) bounds() map[string]int64 {
	var out map[string]int64
	for _, v := range t.pod.Spec.Volumes {
		if v.EmptyDir == nil || v.EmptyDir.Medium != corev1.StorageMediumDefault || amount(v.EmptyDir.SizeLimit) == 0 {
			continue
		}
		if out == nil {
			out = map[string]int64{}
		}
		out[v.Name] = amount(v.EmptyDir.SizeLimit)
	}
	return out
}

// files returns what is in a volume of files.
func (t *translation) files(v *corev1.Volume, at *field.Path) *volumes.Files {
	f := &fileSet{t: t, files: &volumes.Files{}, seen: map[string]bool{}}
	switch {
	case v.ConfigMap != nil:
		f.defaults(v.ConfigMap.DefaultMode, v.ConfigMap.DefaultUser)
		f.configMap(v.ConfigMap.Name, v.ConfigMap.Items, v.ConfigMap.Optional, at.Child("configMap"), "name")
	case v.Secret != nil:
		f.defaults(v.Secret.DefaultMode, v.Secret.DefaultUser)
		f.secret(v.Secret.SecretName, v.Secret.Items, v.Secret.Optional, at.Child("secret"), "secretName")
	case v.DownwardAPI != nil:
		f.defaults(v.DownwardAPI.DefaultMode, v.DownwardAPI.DefaultUser)
		f.downward(v.DownwardAPI.Items, at.Child("downwardAPI"))
	case v.Projected != nil:
		f.defaults(v.Projected.DefaultMode, v.Projected.DefaultUser)
		for i := range v.Projected.Sources {
			s := &v.Projected.Sources[i]
			at := at.Child("projected", "sources").Index(i)
			switch {
			case s.ConfigMap != nil:
				f.configMap(s.ConfigMap.Name, s.ConfigMap.Items, s.ConfigMap.Optional, at.Child("configMap"), "name")
			case s.Secret != nil:
				f.secret(s.Secret.Name, s.Secret.Items, s.Secret.Optional, at.Child("secret"), "name")
			case s.DownwardAPI != nil:
				f.downward(s.DownwardAPI.Items, at.Child("downwardAPI"))
			}
		}
	}
	return f.files
}

// A fileSet is the files of one volume, in the making.
type fileSet struct {
	t     *translation
	files *volumes.Files
	user  *uint32
	seen  map[string]bool
}

func (f *fileSet) defaults(mode *int32, user *int64) {
	f.files.DefaultMode = 0o644
	if mode != nil {
		f.files.DefaultMode = uint32(*mode)
	}
	f.user = owner(user)
}

func owner(user *int64) *uint32 {
	if user == nil {
		return nil
	}
	id := uint32(*user)
	return &id
}

func (f *fileSet) add(file string, content []byte, mode *int32, user *int64, at *field.Path) {
	clean := path.Clean(file)
	if f.seen[clean] {
		f.t.want(at, file, "each path once")
		return
	}
	f.seen[clean] = true
	e := volumes.File{Path: file, Content: content, UID: f.user}
	if mode != nil {
		m := uint32(*mode)
		e.Mode = &m
	} else if f.files.DefaultMode == 0 { // which means another one there
		e.Mode = new(uint32)
	}
	if user != nil {
		e.UID = owner(user)
	}
	f.files.Entries = append(f.files.Entries, e)
}

func (f *fileSet) configMap(name string, items []corev1.KeyToPath, optional *bool, at *field.Path, nameField string) {
	m := f.t.wantConfigMap(name, optional, at.Child(nameField))
	if m == nil {
		return
	}
	data := maps.Clone(m.BinaryData)
	if data == nil {
		data = map[string][]byte{}
	}
	for k, v := range m.Data {
		data[k] = []byte(v)
	}
	f.data(fmt.Sprintf("ConfigMap %q", name), data, items, optional, at)
}

func (f *fileSet) secret(name string, items []corev1.KeyToPath, optional *bool, at *field.Path, nameField string) {
	f.files.Memory = true // also if it is not there yet
	if s := f.t.wantSecret(name, optional, at.Child(nameField)); s != nil {
		f.data(fmt.Sprintf("Secret %q", name), s.Data, items, optional, at)
	}
}

func (f *fileSet) data(of string, data map[string][]byte, items []corev1.KeyToPath, optional *bool, at *field.Path) {
	if len(items) == 0 {
		for _, k := range slices.Sorted(maps.Keys(data)) {
			f.add(k, data[k], nil, nil, at)
		}
		return
	}
	for i, item := range items {
		at := at.Child("items").Index(i)
		content, ok := data[item.Key]
		if !ok {
			if !is(optional) {
				f.t.add(at.Child("key"), fmt.Sprintf("%q: %s has no such key", item.Key, of))
			}
			continue
		}
		f.add(item.Path, content, item.Mode, item.User, at.Child("path"))
	}
}

func (f *fileSet) downward(items []corev1.DownwardAPIVolumeFile, at *field.Path) {
	for i, item := range items {
		var content string
		switch {
		case item.FieldRef != nil:
			content = f.t.field(item.FieldRef.FieldPath)
		case item.ResourceFieldRef != nil:
			content = f.t.resourceField(item.ResourceFieldRef, findContainer(&f.t.pod.Spec, item.ResourceFieldRef.ContainerName))
		}
		f.add(item.Path, []byte(content), item.Mode, item.User, at.Child("items").Index(i).Child("path"))
	}
}

// mounts are where a container has the pod's volumes: in place of what it has there
// otherwise, such as at /dev/shm, and those below others after them.
func (t *translation) mounts(p place, env *environment, o *specs.Spec) {
	var own []specs.Mount
	for i, m := range p.c.VolumeMounts {
		at := p.at.Child("volumeMounts").Index(i)
		n := slices.IndexFunc(t.pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == m.Name })
		if n < 0 {
			continue // which validation has told
		}
		v := &t.pod.Spec.Volumes[n]
		if v.Image != nil {
			continue // see mountImages
		}
		to := specs.Mount{Destination: path.Clean(m.MountPath), Type: launcher.VolumeType, Source: m.Name, Options: []string{"rbind"}}
		if !isPrivileged(p.c) {
			to.Options = append(to.Options, "nodev")
		}
		to.Options = append(to.Options, mountOptions(v, m)...)
		sub := m.SubPath
		if m.SubPathExpr != "" {
			sub, _ = env.expand(m.SubPathExpr)
			if !isLocalPath(sub) {
				t.want(at.Child("subPathExpr"), sub, `a relative path without "..", when it is expanded`)
				continue
			}
		}
		if sub != "" {
			to.Options = append(to.Options, "subpath="+sub)
		}
		own = append(own, to)
	}
	o.Mounts = slices.DeleteFunc(o.Mounts, func(m specs.Mount) bool {
		return slices.ContainsFunc(own, func(n specs.Mount) bool { return n.Destination == m.Destination })
	})
	depth := func(m specs.Mount) int { return strings.Count(m.Destination, "/") }
	slices.SortStableFunc(own, func(a, b specs.Mount) int { return depth(a) - depth(b) })
	o.Mounts = append(o.Mounts, own...)
}

func mountOptions(v *corev1.Volume, m corev1.VolumeMount) []string {
	propagation := "rprivate"
	if p := m.MountPropagation; p != nil {
		propagation = map[corev1.MountPropagationMode]string{
			corev1.MountPropagationNone: "rprivate", corev1.MountPropagationHostToContainer: "rslave", corev1.MountPropagationBidirectional: "rshared",
		}[*p]
	}
	options := []string{propagation}
	readOnly := m.ReadOnly || v.ConfigMap != nil || v.Secret != nil || v.Projected != nil || v.DownwardAPI != nil ||
		v.PersistentVolumeClaim != nil && v.PersistentVolumeClaim.ReadOnly
	r := m.RecursiveReadOnly
	switch {
	case r != nil && *r != corev1.RecursiveReadOnlyDisabled:
		options = append(options, "rro") // which all kernels can do that we run on
	case readOnly:
		options = append(options, "ro")
	}
	return options
}
