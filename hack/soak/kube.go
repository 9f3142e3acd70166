//go:build linux

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// kubeNames are those of the pods that are made by Pod YAML alone.
func (w *worker) kubeNames() []string {
	return []string{fmt.Sprintf("soak-kube%d", w.number), "soak-kube-all"}
}

func (w *worker) kubeName() string {
	names := w.kubeNames()
	return names[w.chance.IntN(len(names))]
}

// manifest makes Pod YAML of a pod, and of what it needs: the same name is another pod each
// time, or the same one with something else that can be changed.
func (w *worker) manifest(name string) string {
	one := func(words ...string) string { return words[w.chance.IntN(len(words))] }
	var b strings.Builder
	fmt.Fprintf(&b, `apiVersion: v1
kind: ConfigMap
metadata: {name: %[1]s}
data: {colour: %[2]s}
---
apiVersion: v1
kind: Secret
metadata: {name: %[1]s}
stringData: {password: hunter2}
---
apiVersion: v1
kind: Pod
metadata:
  name: %[1]s
  labels: {team: %[3]s}
`, name, one("red", "green"), one("red", "blue"))
	if w.chance.IntN(3) == 0 {
		fmt.Fprintf(&b, "  annotations: {%s}\n", one(`kubernetes.io/egress-bandwidth: 50M`, `kubernetes.io/ingress-bandwidth: 100M`,
			`podbox.io/allow-from: "label:team=red"`, `podbox.io/isolate: team`, `podbox.io/allow-to: none`))
	}
	kind := w.chance.IntN(6)
	fmt.Fprintf(&b, `spec:
  terminationGracePeriodSeconds: %s
  restartPolicy: %s
  volumes:
  - {name: files, configMap: {name: %[3]s}}
  - {name: keys, secret: {secretName: %[3]s}}
  - {name: disk, emptyDir: {}}
  - {name: memory, emptyDir: {medium: Memory, sizeLimit: 1Mi}}
`, one("0", "1"), []string{"Always", "Always", "Always", "Never", "OnFailure", "Always"}[kind], name)
	const mounts = `volumeMounts: [{name: files, mountPath: /files}, {name: keys, mountPath: /keys}, {name: disk, mountPath: /disk}, {name: memory, mountPath: /memory}]`
	container := func(name, args, more string) {
		fmt.Fprintf(&b, "  - {name: %s, image: %q, args: [%s], %s%s}\n", name, memberImage, args, mounts, more)
	}
	b.WriteString("  initContainers:\n")
	container("first", "write, /disk/first", "")
	if kind != 1 {
		container("side", "sleep, '1000'", `, restartPolicy: Always, startupProbe: {exec: {command: [/soak, exists, /disk/first]}, periodSeconds: 1}`)
	}
	b.WriteString("  containers:\n")
	switch kind {
	case 3: // ends well
		container("job", "sleep, '0.2'", "")
	case 4: // fails, again and again
		container("job", "exit, '3'", "")
	default:
		more := `, readinessProbe: {tcpSocket: {port: 80}, periodSeconds: 1}, livenessProbe: {exec: {command: [/soak, exists, /disk/first, /files/colour, /keys/password]}, periodSeconds: 1}`
		if kind == 2 {
			more += `, lifecycle: {postStart: {exec: {command: [/soak, write, /memory/started]}}, preStop: {exec: {command: [/soak, sleep, '0.05']}}}`
		}
		if w.chance.IntN(2) == 0 {
			more += fmt.Sprintf(`, ports: [{containerPort: %d, hostPort: %d}]`, servedPort, firstHostPort+w.chance.IntN(hostPorts))
		}
		container(serverName, "answer", more)
		if kind == 5 {
			container("job", "exit, '1'", "")
		}
	}
	return b.String()
}

// apply makes or changes a pod by Pod YAML.
func (w *worker) apply() {
	name := w.kubeName()
	path := filepath.Join(w.s.room, "tmp", fmt.Sprintf("kube-%d.yaml", w.number))
	if err := os.WriteFile(path, []byte(w.manifest(name)), 0o600); err != nil {
		w.s.fault("%v", err)
		return
	}
	args := []string{"apply", "-f", path}
	if w.chance.IntN(2) == 0 {
		args = append(args, "--replace")
	}
	if w.chance.IntN(4) == 0 {
		args = append(args, "--wait=2s")
	}
	w.killLater(150 * time.Millisecond)
	r := w.podbox(args...)
	w.doubt(name)
	if r.code == 0 && w.mine[name] != nil && w.s.pod(name) == nil && w.s.pruned.Load() == 0 {
		w.s.fault("%s has ended well, and there is no pod %q", r.line(), name)
	}
}

// applyAgain applies what was applied last.
func (w *worker) applyAgain() {
	path := filepath.Join(w.s.room, "tmp", fmt.Sprintf("kube-%d.yaml", w.number))
	if _, err := os.Stat(path); err != nil {
		return
	}
	w.killLater(100 * time.Millisecond)
	w.podbox("apply", "-f", path)
	for _, name := range w.kubeNames() {
		w.doubt(name)
	}
}

// unapply removes a pod, and what it needed, by Pod YAML.
func (w *worker) unapply() {
	name := w.kubeName()
	path, err := w.s.kubeFile(name)
	if err != nil {
		w.s.fault("%v", err)
		return
	}
	w.killLater(100 * time.Millisecond)
	r := w.podbox("delete", "-f", path, "--force")
	if known := w.mine[name]; known != nil {
		*known = knowledge{sure: r.code == 0 && !r.killed}
	}
}

// doubt says that a worker does not know any more what became of a pod.
func (w *worker) doubt(name string) {
	if known := w.mine[name]; known != nil {
		*known = knowledge{}
	}
}

// killLater gives a command that takes longer than others its time before it is killed.
func (w *worker) killLater(most time.Duration) {
	if w.killAfter > 0 {
		w.killAfter = time.Duration(1 + w.chance.Int64N(int64(most)))
	}
}

// kubeFile names what a pod is made of, so that it can be deleted.
func (s *soak) kubeFile(names ...string) (string, error) {
	path := filepath.Join(s.room, "tmp", "delete-"+strings.Join(names, "+")+".yaml")
	var b strings.Builder
	for _, name := range names {
		fmt.Fprintf(&b, `apiVersion: v1
kind: ConfigMap
metadata: {name: %[1]s}
---
apiVersion: v1
kind: Secret
metadata: {name: %[1]s}
---
apiVersion: v1
kind: Pod
metadata: {name: %[1]s}
spec: {containers: [{name: c, image: %[2]q}]}
---
`, name, memberImage)
	}
	return path, os.WriteFile(path, []byte(b.String()), 0o600)
}

// unapplyAll removes all that Pod YAML has made, the objects of pods among it that are gone.
func (s *soak) unapplyAll(workers []*worker) error {
	path, err := s.kubeFile(func() (names []string) {
		for _, w := range workers {
			names = append(names, w.kubeNames()[0])
		}
		return append(names, "soak-kube-all")
	}()...)
	if err != nil {
		return err
	}
	if r := s.podbox(nil, "delete", "-f", path, "--force"); r.code != 0 {
		return fmt.Errorf("%s: %s", r.line(), r.stderr)
	}
	return nil
}
