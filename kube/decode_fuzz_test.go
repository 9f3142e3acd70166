package kube

import (
	"os"
	"strings"
	"testing"
)

// FuzzDecode wants nothing but that Decode returns, in bounds, and that what it takes for
// right can be translated.
func FuzzDecode(f *testing.F) {
	for _, name := range []string{"testdata/translate/everything.yaml", "../testdata/pods/loopback.yaml"} {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Add(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p"},"spec":{"containers":[{"name":"c","image":"i"}]}}`)
	f.Add("a: &a [*a]")
	f.Add("%YAML 1.1\n---\na: !!binary x\n")
	f.Fuzz(func(t *testing.T, text string) {
		m, err := Decode([]Source{{"f", []byte(text)}}, DecodeOptions{Lenient: true})
		if err != nil {
			if strings.Count(err.Error(), "\n") > maxProblems {
				t.Errorf("too much is told:\n%v", err)
			}
			return
		}
		for _, p := range m.Pods {
			tr := newTranslation(p, testWorld(m))
			_ = tr.life()
			if spec := tr.sandbox(); len(tr.list) == 0 {
				if err := spec.Validate(); err != nil {
					t.Errorf("what is valid here is not there: %v", err)
				}
			}
			for _, pl := range places(&p.Spec) {
				s := tr.container(pl, ImageConfig{Entrypoint: []string{"/"}})
				if err := s.Validate(); err != nil && len(tr.list) == 0 {
					t.Errorf("container: what is valid here is not there: %v", err)
				}
			}
		}
	})
}
