package kube

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/podbox/podbox/internal/names"
	"github.com/podbox/podbox/volumes"
)

func validateVolumes(f *faults, p *corev1.Pod, at *field.Path) {
	seen := map[string]bool{}
	for i := range p.Spec.Volumes {
		v := &p.Spec.Volumes[i]
		at := at.Index(i)
		switch {
		case !f.required(at.Child("name"), v.Name, "a name"):
		case !names.IsLabel(v.Name):
			f.want(at.Child("name"), v.Name, wantLabel)
		case seen[v.Name]:
			f.want(at.Child("name"), v.Name, "each name once")
		}
		seen[v.Name] = true
		validateVolume(f, p, v, at)
	}
}

func validateVolume(f *faults, p *corev1.Pod, v *corev1.Volume, at *field.Path) {
	kind := f.one(at, []choice{
		{"emptyDir", v.EmptyDir != nil},
		{"hostPath", v.HostPath != nil},
		{"configMap", v.ConfigMap != nil},
		{"secret", v.Secret != nil},
		{"projected", v.Projected != nil},
		{"downwardAPI", v.DownwardAPI != nil},
		{"image", v.Image != nil},
		{"ephemeral", v.Ephemeral != nil},
		{"persistentVolumeClaim", v.PersistentVolumeClaim != nil},
	})
	at = at.Child(kind)
	switch kind {
	case "emptyDir":
		oneOf(f, at.Child("medium"), v.EmptyDir.Medium, corev1.StorageMediumMemory)
		if q := v.EmptyDir.SizeLimit; q != nil {
			switch {
			case q.Sign() < 0:
				f.want(at.Child("sizeLimit"), q.String(), "no negative quantity")
			case v.EmptyDir.Medium == corev1.StorageMediumMemory && q.Sign() > 0 && q.Value() < 4096:
				f.want(at.Child("sizeLimit"), q.String(), "at least 4Ki")
			}
		}
	case "hostPath":
		h := volumes.HostPath{Path: v.HostPath.Path, Type: hostPathType(v.HostPath)}
		if !f.required(at.Child("path"), h.Path, "an absolute path") {
			return
		}
		if err := (volumes.Volume{Name: "v", HostPath: &volumes.HostPath{Path: h.Path}}).Validate(); err != nil {
			f.want(at.Child("path"), h.Path, `an absolute path without ".."`)
		} else if err := (volumes.Volume{Name: "v", HostPath: &h}).Validate(); err != nil {
			f.want(at.Child("type"), string(h.Type), "DirectoryOrCreate, Directory, FileOrCreate, File, Socket, CharDevice, BlockDevice or none")
		}
	case "configMap":
		f.required(at.Child("name"), v.ConfigMap.Name, "the name of a ConfigMap")
		validateFiles(f, v.ConfigMap.Items, v.ConfigMap.DefaultMode, v.ConfigMap.DefaultUser, at)
	case "secret":
		f.required(at.Child("secretName"), v.Secret.SecretName, "the name of a Secret")
		validateFiles(f, v.Secret.Items, v.Secret.DefaultMode, v.Secret.DefaultUser, at)
	case "downwardAPI":
		validateFiles(f, nil, v.DownwardAPI.DefaultMode, v.DownwardAPI.DefaultUser, at)
		validateDownward(f, p, v.DownwardAPI.Items, at.Child("items"))
	case "projected":
		validateProjected(f, p, v.Projected, at)
	case "image":
		f.required(at.Child("reference"), v.Image.Reference, "an image")
		oneOf(f, at.Child("pullPolicy"), v.Image.PullPolicy, corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever)
	case "ephemeral":
		if v.Ephemeral.VolumeClaimTemplate == nil {
			f.add(at.Child("volumeClaimTemplate"), "want one")
		} else if m := v.Ephemeral.VolumeClaimTemplate.Spec.VolumeMode; m != nil {
			oneOf(f, at.Child("volumeClaimTemplate", "spec", "volumeMode"), *m, corev1.PersistentVolumeFilesystem)
		}
	case "persistentVolumeClaim":
		name := v.PersistentVolumeClaim.ClaimName
		if f.required(at.Child("claimName"), name, "the name of a volume") {
			f.all(at.Child("claimName"), name, validation.IsDNS1123Subdomain(name))
		}
	}
}

func hostPathType(h *corev1.HostPathVolumeSource) volumes.PathType {
	if h.Type == nil {
		return volumes.PathAny
	}
	return volumes.PathType(*h.Type)
}

func validateMode(f *faults, mode *int32, at *field.Path) {
	if mode != nil && (*mode < 0 || *mode > 0o777) {
		f.want(at, fmt.Sprintf("%#o", *mode), "a mode from 0 to 0777")
	}
}

func validateOwner(f *faults, user *int64, at *field.Path) {
	if user != nil {
		f.between(at, *user, 0, maxID)
	}
}

const wantPath = `a relative path without ".." that does not begin with two dots`

func validatePath(f *faults, p string, at *field.Path) {
	if f.required(at, p, wantPath) && (!isLocalPath(p) || strings.HasPrefix(p, "..")) {
		f.want(at, p, wantPath)
	}
}

func validateFiles(f *faults, items []corev1.KeyToPath, mode *int32, user *int64, at *field.Path) {
	validateMode(f, mode, at.Child("defaultMode"))
	validateOwner(f, user, at.Child("defaultUser"))
	for i, item := range items {
		at := at.Child("items").Index(i)
		f.required(at.Child("key"), item.Key, "a key")
		validatePath(f, item.Path, at.Child("path"))
		validateMode(f, item.Mode, at.Child("mode"))
		validateOwner(f, item.User, at.Child("user"))
	}
}

func validateProjected(f *faults, p *corev1.Pod, v *corev1.ProjectedVolumeSource, at *field.Path) {
	validateMode(f, v.DefaultMode, at.Child("defaultMode"))
	validateOwner(f, v.DefaultUser, at.Child("defaultUser"))
	if len(v.Sources) == 0 {
		f.add(at.Child("sources"), "want at least one")
	}
	seen := map[string]bool{}
	once := func(path string, at *field.Path) {
		if seen[path] && path != "" {
			f.want(at, path, "each path once")
		}
		seen[path] = true
	}
	for i := range v.Sources {
		s := &v.Sources[i]
		at := at.Child("sources").Index(i)
		kind := f.one(at, []choice{{"secret", s.Secret != nil}, {"configMap", s.ConfigMap != nil}, {"downwardAPI", s.DownwardAPI != nil}})
		at = at.Child(kind)
		var items []corev1.KeyToPath
		switch kind {
		case "secret":
			items = s.Secret.Items
			f.required(at.Child("name"), s.Secret.Name, "the name of a Secret")
		case "configMap":
			items = s.ConfigMap.Items
			f.required(at.Child("name"), s.ConfigMap.Name, "the name of a ConfigMap")
		case "downwardAPI":
			validateDownward(f, p, s.DownwardAPI.Items, at.Child("items"))
			for j, item := range s.DownwardAPI.Items {
				once(item.Path, at.Child("items").Index(j).Child("path"))
			}
		}
		validateFiles(f, items, nil, nil, at)
		for j, item := range items {
			once(item.Path, at.Child("items").Index(j).Child("path"))
		}
	}
}

func validateDownward(f *faults, p *corev1.Pod, items []corev1.DownwardAPIVolumeFile, at *field.Path) {
	seen := map[string]bool{}
	for i, item := range items {
		at := at.Index(i)
		validatePath(f, item.Path, at.Child("path"))
		if seen[item.Path] {
			f.want(at.Child("path"), item.Path, "each path once")
		}
		seen[item.Path] = true
		validateMode(f, item.Mode, at.Child("mode"))
		validateOwner(f, item.User, at.Child("user"))
		switch f.one(at, []choice{{"fieldRef", item.FieldRef != nil}, {"resourceFieldRef", item.ResourceFieldRef != nil}}) {
		case "fieldRef":
			validateFieldRef(f, item.FieldRef, volumeFields, at.Child("fieldRef"))
		case "resourceFieldRef":
			validateResourceRef(f, p, item.ResourceFieldRef, true, at.Child("resourceFieldRef"))
		}
	}
}

// What a fieldRef can name, besides one label or annotation.
var (
	volumeFields = []string{"metadata.name", "metadata.namespace", "metadata.uid", "metadata.labels", "metadata.annotations"}
	envFields    = []string{
		"metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName",
		"status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs",
	}
	subscript = regexp.MustCompile(`^metadata\.(labels|annotations)\['(.*)'\]$`)
)

func validateFieldRef(f *faults, ref *corev1.ObjectFieldSelector, known []string, at *field.Path) {
	oneOf(f, at.Child("apiVersion"), ref.APIVersion, "v1")
	at = at.Child("fieldPath")
	if !f.required(at, ref.FieldPath, "the path of a field") || slices.Contains(known, ref.FieldPath) {
		return
	}
	m := subscript.FindStringSubmatch(ref.FieldPath)
	if m == nil {
		f.want(at, ref.FieldPath, list(append(slices.Clone(known), "metadata.labels['KEY']", "metadata.annotations['KEY']"), "or"))
		return
	}
	key := m[2]
	if m[1] == "annotations" {
		key = strings.ToLower(key)
	}
	f.all(at, m[2], validation.IsQualifiedName(key))
}

var resourceFields = []string{
	"limits.cpu", "limits.memory", "limits.ephemeral-storage", "requests.cpu", "requests.memory", "requests.ephemeral-storage",
}

func validateResourceRef(f *faults, p *corev1.Pod, ref *corev1.ResourceFieldSelector, named bool, at *field.Path) {
	switch {
	case named && !f.required(at.Child("containerName"), ref.ContainerName, "the name of a container"):
	case ref.ContainerName != "" && findContainer(&p.Spec, ref.ContainerName) == nil:
		f.want(at.Child("containerName"), ref.ContainerName, "the name of a container of the pod")
	}
	if f.required(at.Child("resource"), ref.Resource, list(resourceFields, "or")) {
		oneOf(f, at.Child("resource"), ref.Resource, resourceFields...)
	}
	cpu := []string{"1m", "1"}
	memory := []string{"1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"}
	divisors := memory
	if strings.HasSuffix(ref.Resource, ".cpu") {
		divisors = cpu
	}
	if d := ref.Divisor.String(); d != "0" && !slices.Contains(divisors, d) {
		f.want(at.Child("divisor"), d, list(divisors, "or"))
	}
}

func findContainer(s *corev1.PodSpec, name string) *corev1.Container {
	for _, cs := range [][]corev1.Container{s.InitContainers, s.Containers} {
		for i := range cs {
			if cs[i].Name == name {
				return &cs[i]
			}
		}
	}
	return nil
}

// validateResources is about a container's, or the pod's.
func validateResources(f *faults, r *corev1.ResourceRequirements, at *field.Path) {
	known := []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage}
	for _, l := range []struct {
		name string
		list corev1.ResourceList
	}{{"limits", r.Limits}, {"requests", r.Requests}} {
		for _, name := range slices.Sorted(maps.Keys(l.list)) {
			at := at.Child(l.name).Key(string(name))
			q := l.list[name]
			limit, limited := r.Limits[name]
			switch {
			case l.name == "requests" && limited && q.Cmp(limit) == 0: // told already
			case !slices.Contains(known, name):
				f.add(at, "refused: want cpu, memory or ephemeral-storage")
			case q.Sign() < 0:
				f.want(at, q.String(), "no negative quantity")
			case name == corev1.ResourceMemory && l.name == "limits" && q.Sign() > 0 && q.Value() < 512<<10:
				f.want(at, q.String(), "at least 512Ki")
			case name == corev1.ResourceCPU && q.Value() > 1e6:
				f.want(at, q.String(), "at most 1M")
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.Requests)) {
		limit, ok := r.Limits[name]
		if q := r.Requests[name]; ok && q.Cmp(limit) > 0 {
			f.want(at.Child("requests").Key(string(name)), q.String(), "no more than the limit, "+limit.String())
		}
	}
}
