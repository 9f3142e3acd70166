package kube

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/podbox/podbox/image/registry"
)

// testWorld is one that does not change.
func testWorld(m *Manifests) world {
	return world{
		uid: "11111111-2222-3333-4444-555555555555", node: "Machine", hostIPs: []string{"192.0.2.1", "2001:db8::1"},
		podIPs: []string{"10.88.0.9", "fd70::9"},
		capacity: corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("2"), corev1.ResourceMemory: resource.MustParse("4Gi"),
			corev1.ResourceEphemeralStorage: resource.MustParse("100Gi"),
		},
		configMap: func(_, name string) *corev1.ConfigMap {
			for _, c := range m.ConfigMaps {
				if c.Name == name {
					return c
				}
			}
			return nil
		},
		secret: func(_, name string) *corev1.Secret {
			for _, s := range m.Secrets {
				if s.Name == name {
					return s
				}
			}
			return nil
		},
		profiles: "testdata/seccomp",
	}
}

func decodeFile(t *testing.T, name string) *Manifests {
	t.Helper()
	sources, err := Sources([]string{name}, nil)
	if err != nil {
		t.Fatal(err)
	}
	m, err := Decode(sources, DecodeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestTranslate compares what becomes of manifests with what has been found to be right.
func TestTranslate(t *testing.T) {
	names, err := filepath.Glob("testdata/translate/*.yaml")
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	for _, name := range names {
		m := decodeFile(t, name)
		got := map[string]any{"notes": m.Notes}
		for _, p := range m.Pods {
			tr := newTranslation(p, testWorld(m))
			pod := map[string]any{"sandbox": tr.sandbox(), "life": tr.life()}
			image := ImageConfig{
				ID: "sha256:1234", Env: []string{"PATH=/bin", "COLOUR=of the image"}, Entrypoint: []string{"/entry"}, Cmd: []string{"a", "b"},
				WorkingDir: "/work", User: "nobody", StopSignal: "HUP",
			}
			for _, pl := range places(&p.Spec) {
				pod[pl.c.Name] = tr.container(pl, image)
				u, err := tr.user(pl, image)
				if err != nil {
					t.Error(err)
				}
				pod[pl.c.Name+" user"] = []any{u.Name, u.Group, u.Groups, u.Strict}
			}
			for _, f := range tr.list {
				t.Errorf("%s: %s: %s", name, f.path, f.text)
			}
			got[p.Name], got[p.Name+" notes"] = pod, tr.notes
		}
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		e.SetIndent("", " ")
		if err := e.Encode(got); err != nil {
			t.Fatal(err)
		}
		// Not every machine has it to give.
		said := regexp.MustCompile(`(?m)^\s*"CAP_SYS_RESOURCE",\n`).ReplaceAllString(b.String(), "")
		golden := strings.TrimSuffix(name, "yaml") + "golden"
		if *update {
			if err := os.WriteFile(golden, []byte(said), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(string(want), said); d != "" {
			t.Errorf("%s (-want +got; go test ./kube -run TestTranslate -update):\n%s", name, d)
		}
	}
}

// TestProfiles reads filters of system calls, and nothing else.
func TestProfiles(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"good.json": `{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]}`,
		"bad.json":  `[`, "large.json": strings.Repeat(" ", maxProfile+1),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/etc/hostname", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if f, err := readProfile(dir, "good.json"); err != nil || len(f.Syscalls) != 1 {
		t.Errorf("%+v, %v", f, err)
	}
	for _, name := range []string{"bad.json", "large.json", "link", "absent"} {
		if f, err := readProfile(dir, name); err == nil {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

// TestPullSecrets finds credentials, of either form, and tells of what is not there.
func TestPullSecrets(t *testing.T) {
	m, err := Decode([]Source{{"a.yaml", []byte(`apiVersion: v1
kind: Secret
metadata: {name: new}
type: kubernetes.io/dockerconfigjson
stringData: {.dockerconfigjson: '{"auths":{"a.example":{"auth":"YTpi"}}}'}
---
apiVersion: v1
kind: Secret
metadata: {name: old}
type: kubernetes.io/dockercfg
stringData: {.dockercfg: '{"b.example":{"auth":"YTpi"}}'}
---
apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  imagePullSecrets: [{name: new}, {name: old}, {name: absent}]
  containers: [{name: c, image: i}]
`)}}, DecodeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	tr := newTranslation(m.Pods[0], testWorld(m))
	secrets := tr.pullSecrets()
	if len(tr.notes) != 1 || !strings.Contains(tr.notes[0], `spec.imagePullSecrets[2]: no such Secret as "absent"`) {
		t.Errorf("noted %q", tr.notes)
	}
	var registries []string
	for _, text := range secrets {
		found, err := registry.ParsePullSecret(text)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range found {
			registries = append(registries, c.Registry+" "+c.Username+" "+c.Password)
		}
	}
	if d := cmp.Diff([]string{"a.example a b", "b.example a b"}, registries); d != "" {
		t.Error(d)
	}
}
