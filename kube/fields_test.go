package kube

import (
	"maps"
	"reflect"
	"slices"
	"testing"
)

// TestFields compares the table with the API: an update of that which brings a field that
// nobody has thought of fails here.
func TestFields(t *testing.T) {
	table := Fields()
	found := map[string]bool{}
	seen := map[reflect.Type]bool{}
	var visit func(ty reflect.Type)
	visit = func(ty reflect.Type) {
		for ty.Kind() == reflect.Pointer || ty.Kind() == reflect.Slice || ty.Kind() == reflect.Map {
			ty = ty.Elem()
		}
		if _, leaf := leaves[ty]; leaf || ty.Kind() != reflect.Struct || seen[ty] {
			return
		}
		seen[ty] = true
		fields := jsonFields(ty)
		for _, name := range slices.Sorted(maps.Keys(fields)) {
			path := ty.Name() + "." + name
			row, ok := table[path]
			if !ok {
				t.Errorf("%s has no row", path)
				continue
			}
			found[path] = true
			if row.Fate != Done && row.About == "" {
				t.Errorf("%s: nothing is said of it", path)
			}
			if row.Fate == Done {
				visit(fields[name])
			}
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		visit(kinds[kind])
	}
	for path := range table {
		if !found[path] {
			t.Errorf("%s: a row of a field that there is not, or that is below one that is not done", path)
		}
	}
}
