package kube

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/podbox/podbox/sandbox"
)

// mission runs the three pods of which each shows one way for containers to talk.
func (b *bench) mission() {
	t := b.T
	importPodtalk(t, b.Images.(Store).Store)
	pods := map[string]map[string]string{
		"shared-volume": {"reader": "Hello from the writer container\n", "writer": ""},
		"message-queue": {"producer": "exit\n", "consumer": "exit\n"},
		"loopback":      {"client": "hello over the loopback", "server": "hello over the loopback"},
	}
	text := func(name string) string {
		b, err := os.ReadFile("../testdata/pods/" + name + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for name := range pods { // they take their time side by side
		if got := b.apply(text(name), ApplyOptions{}); got != "pod/"+name+" created\n" {
			t.Errorf("apply said %q", got)
		}
	}
	for name, logs := range pods {
		t.Run(name, func(t *testing.T) {
			b := &bench{T: t, Options: b.Options, rt: b.rt}
			for c, want := range logs {
				if got := b.logs(name, c); !strings.Contains(got, want) {
					t.Errorf("%s wrote %q, want %q", c, got, want)
				}
			}
			if name == "message-queue" {
				sent, got := b.logs(name, "producer"), b.logs(name, "consumer")
				if sent != got || strings.Count(got, "\n") != 11 {
					t.Errorf("the producer wrote\n%s the consumer\n%s", sent, got)
				}
			}
			if s, err := b.pod(name).Status(); err != nil || s.Phase != "Succeeded" {
				t.Errorf("phase: %+v, %v", s, err)
			}
			if got := b.apply(text(name), ApplyOptions{Wait: time.Second}); got != "pod/"+name+" unchanged\n" {
				t.Errorf("the second apply said %q", got)
			}
		})
	}
}

// podWith is a pod that waits until the file of its ConfigMap says what it is to wait for.
func podWith(label, image string) string {
	return `apiVersion: v1
kind: Pod
metadata: {name: again, labels: {l: ` + label + `}, annotations: {podbox.io/allow-from: "label:l=` + label + `", podbox.io/isolate: l, kubernetes.io/egress-bandwidth: 1G}}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  nodeSelector: {a: ` + label + `}
  volumes:
  - {name: m, configMap: {name: m}}
  - {name: s, secret: {secretName: s, optional: true}}
  containers:
  - name: c
    image: ` + image + `
    command: [sh, -c, "cat /m/k; until grep -q second /m/k && grep -q hush /s/k; do sleep .02; done; cat /m/k"]
    volumeMounts: [{name: m, mountPath: /m}, {name: s, mountPath: /s}]
`
}

func configMap(value string) string {
	return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\ndata: {k: " + value + "}\n---\n"
}

const secretS = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {k: hush}\n---\n"

// TestApplyAgain applies what is there already, and changes it.
func TestApplyAgain(t *testing.T) {
	b := newBench(t)
	for _, tt := range []struct {
		yaml string
		opts ApplyOptions
		said string
	}{
		{configMap("first") + podWith("a", "busybox:1"), ApplyOptions{DryRun: true}, "configmap/m created (dry run)\nimage busybox:1, IfNotPresent (dry run)\npod/again created (dry run)\n"},
		{configMap("first") + podWith("a", "busybox:1"), ApplyOptions{}, "configmap/m created\npod/again created\n"},
		{configMap("first") + podWith("a", "busybox:1"), ApplyOptions{}, "configmap/m unchanged\npod/again unchanged\n"},
		{podWith("a", "busybox:1"), ApplyOptions{}, "pod/again unchanged\n"},
		{podWith("b", "busybox:1"), ApplyOptions{}, "pod/again configured\n"},
		{podWith("b", "busybox:1"), ApplyOptions{}, "pod/again unchanged\n"},
		{secretS, ApplyOptions{}, "secret/s created\npod/again configured\n"},
		{configMap("second"), ApplyOptions{DryRun: true}, "configmap/m configured (dry run)\n"},
		{configMap("second"), ApplyOptions{}, "configmap/m configured\npod/again configured\n"},
	} {
		if got := b.apply(tt.yaml, tt.opts); got != tt.said {
			t.Errorf("said %q, want %q", got, tt.said)
		}
		if strings.Contains(tt.said, "pod/again created\n") && !tt.opts.DryRun {
			b.saw("again", "c", "first")
		}
	}
	info, err := b.pod("again").Info()
	if err != nil || info.Labels["l"] != "b" || info.Bandwidth.Egress != 1e9 || len(info.Policy.From) != 1 || info.Policy.From[0].Label != "l=b" {
		t.Errorf("labels, policy, bandwidth: %+v, %v", info, err)
	}
	if got := b.logs("again", "c"); got != "firstsecond" {
		t.Errorf("the container saw %q", got)
	}
	id := info.ID

	// What cannot be changed is told by its path, and nothing has happened.
	_, _, err = b.try(configMap("third")+podWith("b", "busybox:2"), ApplyOptions{})
	want := "test.yaml: document 2, line 18: spec.containers[0].image: cannot be changed while the pod is there"
	if !errors.Is(err, ErrImmutable) || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
	if got := b.apply(configMap("second"), ApplyOptions{}); got != "configmap/m unchanged\n" {
		t.Error(got)
	}
	if got := b.apply(podWith("b", "busybox:2"), ApplyOptions{Replace: true}); got != "pod/again replaced\n" {
		t.Error(got)
	}
	if info, err = b.pod("again").Info(); err != nil || info.ID == id {
		t.Errorf("it is the same pod: %v", err)
	}
}

// TestApplyFails has apply fail in ways that are found early, and late.
func TestApplyFails(t *testing.T) {
	b := newBench(t)
	one := func(name, spec string) string {
		return "---\napiVersion: v1\nkind: Pod\nmetadata: {name: " + name + "}\nspec:\n  terminationGracePeriodSeconds: 0\n" + spec
	}
	const sleeper = "  containers: [{name: c, image: 'busybox:1', command: [sleep, '60']}]\n"
	if _, err := b.rt.Create(bg, sandbox.Spec{Name: "byhand"}); err != nil {
		t.Fatal(err)
	}
	early := map[string]string{
		one("xa", sleeper) + one("xb", "  containers: [{name: c, image: 'absent:1', imagePullPolicy: Never}]\n"):                                                                                 `pod "xb": spec.containers[0].image: image docker.io/library/absent:1: not here, and not to be pulled`,
		one("xa", sleeper) + one("xb", "  containers: [{name: c, image: i, env: [{name: A, valueFrom: {configMapKeyRef: {name: absent, key: k}}}]}]\n"):                                          `document 2, line 13: spec.containers[0].env[0].valueFrom.configMapKeyRef.name: "absent": no such ConfigMap in namespace default`,
		configMap("x") + one("xa", "  containers: [{name: c, image: i, env: [{name: A, valueFrom: {configMapKeyRef: {name: m, key: absent}}}]}]\n"):                                              `spec.containers[0].env[0].valueFrom.configMapKeyRef.key: "absent": ConfigMap "m" has no such key`,
		one("xa", "  volumes: [{name: v, secret: {secretName: absent}}]\n"+sleeper):                                                                                                              `spec.volumes[0].secret.secretName: "absent": no such Secret in namespace default`,
		one("xa", "  volumes: [{name: v, projected: {sources: [{configMap: {name: absent}}]}}]\n"+sleeper):                                                                                       `spec.volumes[0].projected.sources[0].configMap.name: "absent": no such ConfigMap`,
		one("xa", "  containers: [{name: c, image: i, envFrom: [{secretRef: {name: absent}}]}]\n"):                                                                                               `spec.containers[0].envFrom[0].secretRef.name: "absent": no such Secret`,
		one("xa", "  containers: [{name: c, image: 'nobody:1'}]\n"):                                                                                                                              `pod "xa": spec.containers[0]: no command: neither the container nor its image says what to run`,
		one("xa", sleeper) + one("byhand", sleeper):                                                                                                                                              `document 2, line 10: metadata.name: "byhand": there is a pod of that name that was not applied`,
		one("xa", "  securityContext: {seccompProfile: {type: Localhost, localhostProfile: podbox-no-such.json}}\n"+sleeper):                                                                     `spec.securityContext.seccompProfile.localhostProfile: seccomp profile in /var/lib/kubelet/seccomp`,
		one("xa", "  volumes: [{name: v}]\n  containers: [{name: c, image: i, command: [a], volumeMounts: [{name: v, mountPath: /v, subPathExpr: $(X)}], env: [{name: X, value: /a/../..}]}]\n"): `subPathExpr: "/a/../..": want a relative path without "..", when it is expanded`,
	}
	for yaml, want := range early {
		said, _, err := b.try(strings.TrimPrefix(yaml, "---\n"), ApplyOptions{})
		if err == nil || !strings.Contains(err.Error(), want) || said != "" {
			t.Errorf("%s\n got %v, said %q\nwant %s", yaml, err, said, want)
		}
		if list, err := b.rt.List(bg); err != nil || len(list) != 1 {
			t.Errorf("%s\nthere are pods: %v, %v", yaml, list, err)
		}
	}
	if got := b.apply(configMap("x"), ApplyOptions{}); got != "configmap/m created\n" {
		t.Errorf("nothing was to be made: %q", got)
	}

	// A host path that is not there is found when the pod is made: what was made before
	// stays, until it is deleted.
	late := configMap("y") + one("xa", sleeper) + one("xb", "  volumes: [{name: v, hostPath: {path: /no/such, type: Directory}}]\n"+sleeper)
	late = strings.Replace(late, "---\n---", "---", 1)
	said, _, err := b.try(late, ApplyOptions{})
	if err == nil || said != "configmap/m configured\npod/xa created\n" {
		t.Errorf("said %q, %v", said, err)
	}
	if _, err := b.rt.Open("xb"); err == nil {
		t.Error("half a pod is left")
	}
	for _, want := range []string{"pod/xa deleted\nconfigmap/m deleted\n", ""} {
		said, notes := "", ""
		o := b.Options
		o.Say, o.Note = func(l string) { said += l + "\n" }, func(l string) { notes += l + "\n" }
		if err := Delete(bg, b.decode(late), o, sandbox.StopOptions{}); err != nil || said != want {
			t.Errorf("said %q, want %q: %v", said, want, err)
		}
		if want == "" && notes != "pod/xb: there is none\npod/xa: there is none\nconfigmap/m: there is none\n" {
			t.Errorf("noted %q", notes)
		}
	}
	// Nothing is left of it.
	for _, dir := range []string{"kube/configmaps/default", "kube/secrets"} {
		if entries, err := os.ReadDir(filepath.Join(b.rt.Root(), dir)); len(entries) > 0 {
			t.Errorf("%s: %v, %v", dir, entries, err)
		}
	}
	if entries, _ := os.ReadDir(filepath.Join(b.rt.StateDir(), "pods")); len(entries) > 0 {
		t.Errorf("on the disk: %v", entries)
	}
}

// TestHalfMade has what a killed apply has left be made anew.
func TestHalfMade(t *testing.T) {
	b := newBench(t)
	yaml := "apiVersion: v1\nkind: Pod\nmetadata: {name: half}\nspec:\n  terminationGracePeriodSeconds: 0\n  containers: [{name: c, image: 'busybox:1', command: [sleep, '60']}]\n"
	spec := newTranslation(b.decode(yaml).Pods[0], world{}).sandbox()
	spec.Annotations = map[string]string{uidAnnotation: "x"}
	for _, recorded := range []bool{false, true} {
		pod, err := b.rt.Create(bg, spec)
		if err != nil {
			t.Fatal(err)
		}
		if recorded {
			a := applied{Version: appliedVersion, UID: "x", Pod: b.decode(yaml).Pods[0]}
			if err := a.write(pod); err != nil {
				t.Fatal(err)
			}
		}
		if got := b.apply(yaml, ApplyOptions{}); got != "pod/half created\n" {
			t.Error(got)
		}
		if got := b.apply(yaml, ApplyOptions{Wait: 5 * time.Second}); got != "pod/half unchanged\n" {
			t.Error(got)
		}
		if err := Delete(bg, b.decode(yaml), b.Options, sandbox.StopOptions{}); err != nil {
			t.Error(err)
		}
	}
}

// TestKilled has apply be killed at many moments. What it leaves is finished by the next one,
// or removed by Delete.
func TestKilled(t *testing.T) {
	b := newBench(t)
	yaml := configMap("x") + secretS + `apiVersion: v1
kind: Pod
metadata: {name: killed}
spec:
  terminationGracePeriodSeconds: 0
  volumes: [{name: m, configMap: {name: m}}, {name: s, secret: {secretName: s}}, {name: image, image: {reference: 'data:1'}}]
  containers:
  - {name: one, image: 'busybox:1', command: [sleep, '60'], volumeMounts: [{name: m, mountPath: /m}, {name: s, mountPath: /s}]}
  - {name: two, image: 'busybox:1', command: [sleep, '60'], volumeMounts: [{name: image, mountPath: /i}]}
`
	file := filepath.Join(t.TempDir(), "killed.yaml")
	if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(after time.Duration) {
		t.Helper()
		var out strings.Builder
		cmd := exec.Command("/proc/self/exe", "apply", b.rt.Root(), b.rt.StateDir(), file)
		cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
		cmd.Stderr = &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if after > 0 {
			time.Sleep(after)
			_ = cmd.Process.Kill()
		}
		if err := cmd.Wait(); err != nil && (after == 0 || out.Len() > 0) {
			t.Fatalf("%v: %s", err, out.String())
		}
	}
	start := time.Now()
	run(0)
	whole := time.Since(start)
	remove := func() {
		t.Helper()
		if err := Delete(bg, b.decode(yaml), b.Options, sandbox.StopOptions{}); err != nil {
			t.Fatal(err)
		}
		if list, err := b.rt.List(bg); err != nil || len(list) > 0 {
			t.Fatalf("pods are left: %v, %v", list, err)
		}
		// A pod without a record is nobody's: what clears that away is gc.
		if _, err := b.rt.Sweep(bg); err != nil {
			t.Error(err)
		}
		for _, dir := range []string{filepath.Join(b.rt.Root(), "pods"), filepath.Join(b.rt.StateDir(), "pods"), filepath.Join(b.rt.Root(), "kube")} {
			entries, err := os.ReadDir(dir)
			if len(entries) > 0 || err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("in %s is left: %v, %v", dir, entries, err)
			}
		}
	}
	remove()
	const rounds = 8
	for n := range rounds {
		run(whole * time.Duration(n+1) / (rounds + 1))
		if n%2 == 0 {
			said, _, err := b.try(yaml, ApplyOptions{Wait: 10 * time.Second})
			if err != nil {
				t.Fatalf("round %d: %v", n, err)
			}
			if !strings.Contains(said, "pod/killed ") {
				t.Errorf("said %q", said)
			}
		}
		remove()
	}
}

// TestAtOnce has many apply the same: one makes it.
func TestAtOnce(t *testing.T) {
	b := newBench(t)
	yaml := configMap("x") + "apiVersion: v1\nkind: Pod\nmetadata: {name: once}\nspec:\n  terminationGracePeriodSeconds: 0\n  containers: [{name: c, image: 'busybox:1', command: [sleep, '60']}]\n"
	const many = 6
	said := make([]string, many)
	errs := make([]error, many)
	var all sync.WaitGroup
	for i := range many {
		all.Go(func() { said[i], _, errs[i] = b.try(yaml, ApplyOptions{}) })
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
	for _, want := range []string{"pod/once created", "configmap/m created"} {
		if n := strings.Count(strings.Join(said, ""), want); n != 1 {
			t.Errorf("%s: %d times: %q", want, n, said)
		}
	}
}

// TestSecretsAreKept has what is secret be for root alone.
func TestSecretsAreKept(t *testing.T) {
	b := newBench(t)
	_, notes, err := b.try(secretS, ApplyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if onDisk := openState(b.rt).onDisk(); onDisk != strings.Contains(notes, "which is on a disk: want a tmpfs") {
		t.Errorf("noted %q, on a disk: %v", notes, onDisk)
	}
	err = filepath.WalkDir(filepath.Join(b.rt.Root(), "kube"), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := d.Info()
		if err == nil && st.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v", path, st.Mode())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
