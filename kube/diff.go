package kube

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// changes returns the paths at which two pods differ, without what is moot.
func changes(old, now *corev1.Pod) []string {
	a, b := tree(old), tree(now)
	var paths []string
	compare(a, b, "", &paths)
	return paths
}

func tree(p *corev1.Pod) any {
	b, _ := json.Marshal(p) // which comes from JSON
	var v any
	_ = json.Unmarshal(b, &v)
	return v
}

func compare(a, b any, path string, paths *[]string) {
	if reflect.DeepEqual(a, b) {
		return
	}
	if am, ok := a.(map[string]any); ok {
		if bm, ok := b.(map[string]any); ok {
			keys := maps.Clone(am)
			maps.Copy(keys, bm)
			for _, k := range slices.Sorted(maps.Keys(keys)) {
				compare(am[k], bm[k], join(path, k), paths)
			}
			return
		}
	}
	if as, ok := a.([]any); ok {
		if bs, ok := b.([]any); ok && len(as) == len(bs) {
			for i := range as {
				compare(as[i], bs[i], fmt.Sprintf("%s[%d]", path, i), paths)
			}
			return
		}
	}
	*paths = append(*paths, path)
}

// changeable are what can be changed while a pod is there, and what is below it: what the
// pod is told to be, and what has no meaning here.
func changeable(path string) bool {
	for _, p := range []string{"metadata.labels", "metadata.annotations"} {
		if path == p || strings.HasPrefix(path, p+".") {
			return !strings.HasSuffix(path, shmAnnotation)
		}
	}
	// Containers are told of these names when they start, so they cannot change.
	words := strings.FieldsFunc(path, func(r rune) bool { return r == '.' || r == '[' })
	if len(words) < 2 {
		return false
	}
	table := Fields()
	return words[0] == "spec" && table["PodSpec."+words[1]].Fate == Moot ||
		words[0] == "metadata" && table["ObjectMeta."+words[1]].Fate == Moot
}
