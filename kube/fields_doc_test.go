package kube

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

var update = flag.Bool("update", false, "write what the tests compare with anew")

// TestPodYAML compares docs/POD-YAML.md with the table that it is written from.
func TestPodYAML(t *testing.T) {
	const name = "../docs/POD-YAML.md"
	want := podYAML()
	if *update {
		if err := os.WriteFile(name, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what the table says: go test ./kube -run TestPodYAML -update", name)
	}
}

const podYAMLHead = `# Pod YAML

What becomes of each field of a Pod, a ConfigMap and a Secret when ` + "`podbox apply`" + ` reads it. This page is written from the
table in ` + "`kube/fields.go`" + `, which the command acts by.

- **done**: it has the effect that it has in Kubernetes.
- **no meaning here**: it is about a cluster. It is accepted; a note on standard error names it.
- **refused**: an error that names its path, and nothing is made. With ` + "`--lenient`" + ` it is dropped, and a warning names it.

Fields that Kubernetes does not know, wrong types, and keys that are given twice are errors always.
`

func podYAML() []byte {
	var b bytes.Buffer
	b.WriteString(podYAMLHead)
	table := Fields()
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
		fmt.Fprintf(&b, "\n## %s\n\n| field | | |\n| --- | --- | --- |\n", ty.Name())
		var next []reflect.Type
		row := func(name string, field reflect.Type) {
			f := table[ty.Name()+"."+name]
			about := f.About
			if about == "" {
				about = "As in Kubernetes."
				if el := elem(field); el.Kind() == reflect.Struct {
					about = fmt.Sprintf("See [%s](#%s).", el.Name(), strings.ToLower(el.Name()))
				}
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", name, f.Fate, about)
			if f.Fate == Done {
				next = append(next, field)
			}
		}
		var rows func(ty reflect.Type)
		rows = func(ty reflect.Type) {
			for i := range ty.NumField() {
				f := ty.Field(i)
				name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
				if f.Anonymous && name == "" {
					rows(f.Type)
					continue
				}
				row(name, f.Type)
			}
		}
		rows(ty)
		for _, n := range next {
			visit(n)
		}
	}
	for _, kind := range []any{corev1.Pod{}, corev1.ConfigMap{}, corev1.Secret{}} {
		visit(reflect.TypeOf(kind))
	}
	return b.Bytes()
}

func elem(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
		t = t.Elem()
	}
	return t
}
