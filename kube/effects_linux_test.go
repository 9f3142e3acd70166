package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/testenv"
	"github.com/podbox/podbox/sandbox"
)

// What follows looks at fields by their effect, from inside containers. Each line of a
// container's log is "WHAT: VALUE"; values are regular expressions.

// expects compares what a container wrote with what is wanted.
func (b *bench) expects(pod, container string, want map[string]string) {
	b.Helper()
	text := b.logs(pod, container)
	got := map[string]string{}
	for line := range strings.Lines(text) {
		if k, v, ok := strings.Cut(strings.TrimSuffix(line, "\n"), ": "); ok {
			got[k] = v
		}
	}
	for k, w := range want {
		v, ok := got[k]
		if !ok {
			b.Errorf("%s/%s: nothing of %s in\n%s", pod, container, k, text)
			continue
		}
		if !regexp.MustCompile("^(?:" + w + ")$").MatchString(v) {
			b.Errorf("%s/%s: %s: %q, want %s", pod, container, k, v, w)
		}
	}
}

// script is a container that tells what commands print, a line each.
func script(lines map[string]string) string {
	var s strings.Builder
	for k, cmd := range lines {
		fmt.Fprintf(&s, "echo \"%s: $(%s)\" 2>&1\n", k, cmd)
	}
	return s.String()
}

// shell returns the command of a container that runs a script, as a line of YAML.
func shell(text string) string {
	b, _ := json.Marshal([]string{"/bin/sh", "-c", text})
	return "command: " + strings.ReplaceAll(string(b), "$(", "$$(") + "\n"
}

// TestInside runs them side by side, for most of their time is waited.
func TestInside(t *testing.T) {
	b := newBench(t)
	for name, f := range map[string]func(*bench){
		"environment": (*bench).environment, "volumes": (*bench).mounted, "security": (*bench).allowed, "names": (*bench).named,
		"life": (*bench).lived, "mounts": (*bench).propagated, "host port": (*bench).served, "mission": (*bench).mission,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(&bench{T: t, Options: b.Options, rt: b.rt})
		})
	}
}

const objectsOf = `apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {colour: green, size: big}
binaryData: {raw: aGVsbG8=}
---
apiVersion: v1
kind: Secret
metadata: {name: keys}
stringData: {password: hunter2}
---
`

func (b *bench) environment() {
	t := b.T
	yaml := objectsOf + `apiVersion: v1
kind: Pod
metadata: {name: env, labels: {tier: front}, annotations: {example.com/a: 'x y'}}
spec:
  restartPolicy: Never
  serviceAccountName: robot
  containers:
  - name: c
    image: busybox:1
    workingDir: /tmp
    command: [/bin/sh, -c, "env; echo arg=$0; echo arg1=$1; echo pwd=$(pwd)", $(COLOUR)]
    args: ["$$(COLOUR) $(NOPE)", "--password=$(PASSWORD)"]
    envFrom:
    - {prefix: CM_, configMapRef: {name: settings}}
    - {secretRef: {name: keys}}
    - {configMapRef: {name: absent, optional: true}}
    env:
    - {name: COLOUR, valueFrom: {configMapKeyRef: {name: settings, key: colour}}}
    - {name: PASSWORD, valueFrom: {secretKeyRef: {name: keys, key: password}}}
    - {name: DERIVED, value: "pw=$(PASSWORD)"}
    - {name: PLAIN, value: "$(COLOUR) $$(COLOUR) $(NOPE)"}
    - {name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    - {name: SPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
    - {name: ID, valueFrom: {fieldRef: {fieldPath: metadata.uid}}}
    - {name: TIER, valueFrom: {fieldRef: {fieldPath: "metadata.labels['tier']"}}}
    - {name: NOTE, valueFrom: {fieldRef: {fieldPath: "metadata.annotations['example.com/a']"}}}
    - {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
    - {name: ACCOUNT, valueFrom: {fieldRef: {fieldPath: spec.serviceAccountName}}}
    - {name: HOST, valueFrom: {fieldRef: {fieldPath: status.hostIP}}}
    - {name: HOSTS, valueFrom: {fieldRef: {fieldPath: status.hostIPs}}}
    - {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    - {name: IPS, valueFrom: {fieldRef: {fieldPath: status.podIPs}}}
    - {name: CPU, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 1m}}}
    - {name: MEM, valueFrom: {resourceFieldRef: {resource: requests.memory, divisor: 1Mi}}}
    - {name: ABSENT, valueFrom: {secretKeyRef: {name: keys, key: absent, optional: true}}}
    resources: {requests: {memory: 16Mi}, limits: {cpu: 500m}}
`
	b.apply(yaml, ApplyOptions{})
	info, err := b.pod("env").Info()
	if err != nil {
		t.Fatal(err)
	}
	node, _ := os.Hostname()
	log := "\n" + b.logs("env", "c")
	for _, want := range []string{
		"COLOUR=green", "CM_colour=green", "CM_size=big", "password=hunter2", "PASSWORD=hunter2", "DERIVED=pw=hunter2",
		"PLAIN=green $(COLOUR) $(NOPE)", "NAME=env", "SPACE=default", "ID=" + info.Annotations[uidAnnotation], "TIER=front", "NOTE=x y",
		"NODE=" + node, "ACCOUNT=robot", "IP=" + info.IP, "IPS=" + info.IP + "," + info.IP6, "CPU=500", "MEM=16", "HOSTNAME=env", "PATH=/bin",
		"arg=green", "arg1=$(COLOUR) $(NOPE)", "pwd=/tmp",
	} {
		if !strings.Contains(log, "\n"+want+"\n") {
			t.Errorf("want %q in%s", want, log)
		}
	}
	if strings.Contains(log, "ABSENT") || strings.Contains(log, "\nCM_raw") {
		t.Errorf("there is what should not be:%s", log)
	}
	if ips := hostIPs(); len(ips) > 0 && !strings.Contains(log, "\nHOST="+ips[0]+"\n") {
		t.Errorf("want HOST=%s in%s", ips[0], log)
	}
	// What is secret is in no listing.
	c, err := b.pod("env").Container("c")
	if err != nil {
		t.Fatal(err)
	}
	s, err := c.Status()
	if err != nil {
		t.Fatal(err)
	}
	pod, err := b.pod("env").Status()
	if err != nil {
		t.Fatal(err)
	}
	if shown, _ := json.Marshal([]any{s, pod, info}); strings.Contains(string(shown), "hunter2") {
		t.Errorf("the secret is shown: %s", shown)
	}
}

func (b *bench) mounted() {
	t := b.T
	host := t.TempDir()
	if err := os.WriteFile(filepath.Join(host, "file"), []byte("of the host\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	look := script(map[string]string{
		"disk": "cat /disk/said", "memory": "df -Pk /memory | awk 'END { print $2 }'",
		"shm": "df -Pk /dev/shm | awk 'END { print $2 }'", "host": "cat /host/file", "file": "cat /host.txt",
		"host ro": "touch /host/new 2>&1 | sed 's/.*: //'", "made": "stat -c %F /made",
		"settings": "cat /settings/etc/colour", "mode": "stat -L -c %a /settings/etc/colour", "raw": "cat /settings/raw", "default mode": "stat -L -c %a /settings/raw",
		"settings ro": "touch /settings/x 2>&1 | sed 's/.*: //'", "only": "ls /settings | tr '\\n' ' '",
		"secret": "cat /keys/password", "secret mode": "stat -L -c %a:%u:%g /keys/password", "secret on": "stat -f -c %T /keys",
		"absent": "ls /absent | wc -l | tr -d ' '", "labels": "cat /about/labels", "cpu": "cat /about/cpu", "uid": "stat -L -c %u /about/cpu",
		"projected": "cat /all/colour /all/password /all/name | tr '\\n' ' '", "projected on": "stat -f -c %T /all",
		"sub": "ls /sub", "expr": "ls /disk/vol", "claim": "cat /claim/kept", "image": "cat /image/hello", "image ro": "touch /image/x 2>&1 | sed 's/.*: //'", "claim ro": "touch /claimro/x 2>&1 | sed 's/.*: //'",
		"ephemeral": "stat -c %a:%g /ephemeral", "fsgroup": "stat -c %g /disk/said", "group of memory": "stat -c %g /memory",
		"private": "grep ' /disk ' /proc/self/mountinfo | grep -c -e master: -e shared:",
	})
	yaml := objectsOf + `apiVersion: v1
kind: Pod
metadata: {name: vol, labels: {app: web}}
spec:
  restartPolicy: Never
  securityContext: {fsGroup: 2000}
  volumes:
  - {name: disk, emptyDir: {sizeLimit: 1Gi}}
  - {name: memory, emptyDir: {medium: Memory, sizeLimit: 1Mi}}
  - {name: shm, emptyDir: {medium: Memory, sizeLimit: 2Mi}}
  - {name: host, hostPath: {path: ` + host + `, type: Directory}}
  - {name: file, hostPath: {path: ` + host + `/file, type: File}}
  - {name: made, hostPath: {path: ` + host + `/a/b, type: DirectoryOrCreate}}
  - {name: settings, configMap: {name: settings, defaultMode: 0444, items: [{key: colour, path: etc/colour, mode: 0440}, {key: raw, path: raw}]}}
  - {name: keys, secret: {secretName: keys, defaultMode: 0400}}
  - {name: absent, configMap: {name: absent, optional: true}}
  - name: about
    downwardAPI:
      items:
      - {path: labels, fieldRef: {fieldPath: metadata.labels}}
      - {path: cpu, user: 77, resourceFieldRef: {containerName: c, resource: limits.cpu, divisor: 1m}}
  - name: all
    projected:
      sources:
      - {configMap: {name: settings, items: [{key: colour, path: colour}]}}
      - {secret: {name: keys}}
      - {downwardAPI: {items: [{path: name, fieldRef: {fieldPath: metadata.name}}]}}
  - {name: image, image: {reference: 'data:1'}}
  - {name: claim, persistentVolumeClaim: {claimName: data}}
  - {name: claimro, persistentVolumeClaim: {claimName: data, readOnly: true}}
  - {name: ephemeral, ephemeral: {volumeClaimTemplate: {spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}}}
  initContainers:
  - name: prepare
    image: busybox:1
    ` + shell("echo hello > /disk/said; mkdir -p /disk/a/b; echo > /disk/a/b/in-sub; echo kept > /claim/kept") + `
    volumeMounts:
    - {name: disk, mountPath: /disk}
    - {name: claim, mountPath: /claim}
  containers:
  - name: c
    image: busybox:1
    ` + shell(look) + `
    resources: {limits: {cpu: 250m}}
    env: [{name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]
    volumeMounts:
    - {name: disk, mountPath: /disk}
    - {name: memory, mountPath: /memory}
    - {name: shm, mountPath: /dev/shm}
    - {name: host, mountPath: /host, readOnly: true, recursiveReadOnly: Enabled}
    - {name: host, mountPath: /slave, mountPropagation: HostToContainer}
    - {name: file, mountPath: /host.txt}
    - {name: made, mountPath: /made}
    - {name: settings, mountPath: /settings}
    - {name: keys, mountPath: /keys}
    - {name: absent, mountPath: /absent}
    - {name: about, mountPath: /about}
    - {name: all, mountPath: /all}
    - {name: disk, mountPath: /sub, subPath: a/b}
    - {name: disk, mountPath: /mine, subPathExpr: $(NAME)/x}
    - {name: image, mountPath: /image}
    - {name: claim, mountPath: /claim}
    - {name: claimro, mountPath: /claimro}
    - {name: ephemeral, mountPath: /ephemeral}
`
	b.apply(yaml, ApplyOptions{})
	b.expects("vol", "c", map[string]string{
		"disk": "hello", "memory": "1024", "shm": "2048", "host": "of the host", "file": "of the host", "host ro": "Read-only file system",
		"made": "directory", "settings": "green", "mode": "440", "raw": "hello", "default mode": "444", "settings ro": "Read-only file system",
		"only": "etc raw ", "secret": "hunter2", "secret mode": "440:0:2000", "secret on": "tmpfs", "absent": "0",
		"labels": `app="web"`, "cpu": "250", "uid": "77", "projected": "greenhunter2vol", "projected on": "tmpfs", "sub": "in-sub", "expr": "x",
		"claim": "kept", "image": "of the image", "image ro": "Read-only file system", "claim ro": "Read-only file system", "ephemeral": "2777:2000", "fsgroup": "2000", "group of memory": "2000",
	})
	// A claim outlives the pod.
	b.apply(`apiVersion: v1
kind: Pod
metadata: {name: next}
spec:
  restartPolicy: Never
  volumes: [{name: v, persistentVolumeClaim: {claimName: data}}]
  containers:
  - name: c
    image: busybox:1
    `+shell("echo found: $(cat /v/kept)")+`
    volumeMounts: [{name: v, mountPath: /v}]
`, ApplyOptions{})
	b.expects("next", "c", map[string]string{"found": "kept"})
}

// oomScript waits for what is set right after the program has been executed.
const oomScript = `i=0; while [ $i -lt 100 ] && [ "$(cat /proc/1/oom_score_adj)" = 0 ]; do i=$((i+1)); sleep 0.02; done; cat /proc/1/oom_score_adj`

func (b *bench) allowed() {
	t := b.T
	status := func(field string) string { return "awk '/^" + field + ":/ { print $2 }' /proc/self/status" }
	look := script(map[string]string{
		"user": "id -u", "group": "id -g", "groups": "id -G", "caps": status("CapBnd"), "effective": status("CapEff"), "nnp": status("NoNewPrivs"),
		"seccomp": status("Seccomp"), "root": "touch /new 2>&1 | sed 's/.*: //'", "masked": "grep -c ' /proc/keys ' /proc/self/mountinfo",
		"somaxconn": "cat /proc/sys/net/core/somaxconn", "shmmax": "cat /proc/sys/kernel/shmmax", "oom": oomScript,
		"memory": "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null",
		"cpu":    "cat /sys/fs/cgroup/cpu.max 2>/dev/null || cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us",
		"shares": "cat /sys/fs/cgroup/cpu.weight 2>/dev/null || cat /sys/fs/cgroup/cpu/cpu.shares",
		"users":  "awk '{ print ($2 == 0 ? \"host\" : \"own\"), $3 }' /proc/self/uid_map", "devices": "ls /dev | wc -l | tr -d ' '",
		"sys": "grep -c ' /sys .*[ ,]rw[ ,]' /proc/self/mounts",
	})
	yaml := `apiVersion: v1
kind: Pod
metadata: {name: sec}
spec:
  restartPolicy: Never
  securityContext:
    runAsUser: 1000
    runAsGroup: 3000
    runAsNonRoot: true
    supplementalGroups: [4000]
    fsGroup: 2000
    sysctls: [{name: net.core.somaxconn, value: "1234"}, {name: kernel/shmmax, value: "65536"}]
  containers:
  - name: usual
    image: busybox:1
    ` + shell(look) + `
    resources: {requests: {cpu: 250m}, limits: {memory: 64Mi, cpu: 500m}}
  - name: tight
    image: busybox:1
    ` + shell(look) + `
    securityContext: {readOnlyRootFilesystem: true, allowPrivilegeEscalation: false, capabilities: {drop: [ALL], add: [NET_BIND_SERVICE]}, seccompProfile: {type: Unconfined}}
  - name: open
    image: busybox:1
    ` + shell(look) + `
    securityContext: {privileged: true, runAsUser: 0, runAsGroup: 0, runAsNonRoot: false}
  - name: root
    image: busybox:1
    ` + shell(look) + `
    securityContext: {runAsUser: 0, runAsNonRoot: false, capabilities: {add: [SYS_TIME], drop: [CHOWN]}}
`
	b.apply(yaml, ApplyOptions{})
	b.expects("sec", "usual", map[string]string{
		"user": "1000", "group": "3000", "groups": "3000 555 2000 4000", "caps": "00000000a80425fb", "effective": "0000000000000000", "nnp": "0",
		"seccomp": "2", "masked": "1", "somaxconn": "1234", "shmmax": "65536", "oom": "9[0-9][0-9]", "memory": "67108864", "cpu": "50000( 100000)?",
		"shares": "256|10|35|30", "users": "host .*", "sys": "0",
	})
	b.apply("apiVersion: v1\nkind: Secret\nmetadata: {name: ofusers}\nstringData: {k: v}\n---\n"+`apiVersion: v1
kind: Pod
metadata: {name: strict}
spec:
  restartPolicy: Never
  volumes: [{name: disk}, {name: memory, emptyDir: {medium: Memory}}, {name: secret, secret: {secretName: ofusers, defaultMode: 0400}}]
  hostUsers: false
  securityContext: {runAsUser: 1000, supplementalGroups: [4000], supplementalGroupsPolicy: Strict}
  containers:
  - name: c
    image: busybox:1
    `+shell(look)+`
  - name: unmasked
    image: busybox:1
    `+shell(look)+`
    securityContext: {procMount: Unmasked, runAsUser: 0}
  - name: owner
    image: busybox:1
    securityContext: {runAsUser: 0}
    `+shell(script(map[string]string{
		"disk": "echo > /disk/f && stat -c %u:%g /disk/f", "memory": "echo > /memory/f && stat -c %u:%g /memory/f", "secret": "cat /secret/k", "root": "stat -c %u:%g /bin",
	}))+`
    volumeMounts: [{name: disk, mountPath: /disk}, {name: memory, mountPath: /memory}, {name: secret, mountPath: /secret}]
`, ApplyOptions{})
	refused := func(name string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(bg, testenv.Patience(20*time.Second))
		defer cancel()
		c, err := b.pod("strict").Container(name)
		if err != nil {
			t.Fatal(err)
		}
		_, werr := c.Wait(ctx)
		if s, err := c.Status(); err != nil || !strings.Contains(s.Error, "not supported yet by") {
			t.Errorf("strict/%s: %+v, %v, %v; want it to say what the kernel lacks", name, s, err, werr)
		}
	}
	if testenv.Before(t, 6, 3) { // no tmpfs with other owners
		refused("owner")
	} else {
		b.expects("strict", "owner", map[string]string{"disk": "0:0", "memory": "0:0", "secret": "v", "root": "0:0"})
	}
	if testenv.Before(t, 5, 19) { // no images
		refused("c")
	} else {
		b.expects("strict", "c", map[string]string{"user": "1000", "group": "1001", "groups": "1001 4000", "users": "own 65536"})
		b.expects("strict", "unmasked", map[string]string{"user": "0", "users": "own 65536", "masked": "0"})
	}
	b.expects("sec", "tight", map[string]string{
		"caps": "0000000000000400", "nnp": "1", "seccomp": "0", "root": "Read-only file system",
	})
	b.expects("sec", "open", map[string]string{
		"user": "0", "effective": "0*[1-9a-f][0-9a-f]*", "caps": "0*[1-9a-f][0-9a-f]{8,}", "seccomp": "0", "devices": "[1-9][0-9]+", "sys": "[1-9]",
	})
	b.expects("sec", "root", map[string]string{"user": "0", "effective": "00000000aa0425fa", "root": ""})

	// What would run as root, or cannot be told, is not even made.
	for image, want := range map[string]string{
		"busybox:1": "spec.containers[0].securityContext.runAsNonRoot: the container would run as root",
		"nobody:1":  `spec.containers[0].securityContext.runAsNonRoot: the image's user is "nobody", and it cannot be told whether that is root: want runAsUser`,
	} {
		_, _, err := b.try(`apiVersion: v1
kind: Pod
metadata: {name: refused}
spec: {containers: [{name: c, image: '`+image+`', command: [sh], securityContext: {runAsNonRoot: true}}]}
`, ApplyOptions{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", image, err, want)
		}
		if _, err := b.rt.Open("refused"); err == nil {
			t.Errorf("%s: there is a pod", image)
		}
	}
}

func (b *bench) named() {
	t := b.T
	long := fmt.Sprint(testenv.Patience(1250 * time.Millisecond).Seconds())
	look := script(map[string]string{
		"hostname": "hostname", "own": "grep $(hostname) /etc/hosts | head -1 | awk '{ print $2, $3 }'", "alias": "awk '/^192.0.2.7/ { print $2, $3 }' /etc/hosts",
		"resolv": "cat /etc/resolv.conf | tr '\\n' ';'", "shm": "df -Pk /dev/shm | awk 'END { print $2 }'", "net": "readlink /proc/self/ns/net",
		"ipc": "readlink /proc/self/ns/ipc", "pid": "readlink /proc/self/ns/pid", "others": "ps | grep -c '[s]leep " + long + "'",
	})
	yaml := `apiVersion: v1
kind: Pod
metadata: {name: names, annotations: {podbox.io/shm-size: 3Mi}}
spec:
  restartPolicy: Never
  hostname: www
  subdomain: site
  setHostnameAsFQDN: true
  shareProcessNamespace: true
  dnsPolicy: None
  dnsConfig:
    nameservers: [192.0.2.53]
    searches: [example.com, example.org]
    options: [{name: ndots, value: "2"}, {name: edns0}]
  hostAliases: [{ip: 192.0.2.7, hostnames: [db, db.example.com]}]
  containers:
  - name: sleeper
    image: busybox:1
    command: [sleep, "` + long + `"]
  - name: c
    image: busybox:1
    ` + shell("sleep .1\n"+look) + `
---
apiVersion: v1
kind: Pod
metadata: {name: onhost}
spec:
  restartPolicy: Never
  hostNetwork: true
  hostPID: true
  hostIPC: true
  containers:
  - name: c
    image: busybox:1
    ` + shell(look) + `
`
	b.apply(yaml, ApplyOptions{})
	b.expects("names", "c", map[string]string{
		"hostname": `www\.site\.default\.svc\.cluster\.local`, "own": `www\.site\.default\.svc\.cluster\.local www`, "alias": "db db.example.com",
		"resolv": "search example.com example.org;nameserver 192.0.2.53;options ndots:2 edns0;|.*options.*;", "shm": "3072", "others": "1",
	})
	ns := func(kind string) string {
		l, err := os.Readlink("/proc/self/ns/" + kind)
		if err != nil {
			t.Fatal(err)
		}
		return regexp.QuoteMeta(l)
	}
	node, _ := os.Hostname()
	b.expects("onhost", "c", map[string]string{
		"hostname": strings.ToLower(node), "net": ns("net"), "ipc": ns("ipc"), "pid": ns("pid"),
	})
}

func (b *bench) lived() {
	t := b.T
	yaml := `apiVersion: v1
kind: Pod
metadata: {name: life}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 2
  os: {name: linux}
  volumes: [{name: v}]
  initContainers:
  - {name: first, image: 'busybox:1', command: [sh, -c, "echo first >> /v/order"], volumeMounts: [{name: v, mountPath: /v}]}
  - name: side
    image: busybox:1
    restartPolicy: Always
    command: [sh, -c, "echo side >> /v/order; exec httpd -f -p 8080 -h /v"]
    ports: [{name: http, containerPort: 8080}]
    startupProbe: {httpGet: {path: /order, port: http}, periodSeconds: 1}
    volumeMounts: [{name: v, mountPath: /v}]
  - {name: second, image: 'busybox:1', command: [sh, -c, "echo second >> /v/order"], volumeMounts: [{name: v, mountPath: /v}]}
  containers:
  - name: main
    image: busybox:1
    command: [sh, -c, "until [ -e /v/hook ]; do sleep .02; done; cat /v/order; echo so long > /dev/termination-log"]
    lifecycle: {postStart: {exec: {command: [sh, -c, "echo > /v/hook"]}}}
    volumeMounts: [{name: v, mountPath: /v}]
  - name: again
    image: busybox:1
    restartPolicy: Never
    restartPolicyRules: [{action: Restart, exitCodes: {operator: In, values: [42]}}]
    command: [sh, -c, "[ -e /v/once ] && exit 3; echo > /v/once; exit 42"]
    terminationMessagePath: /tmp/x
    terminationMessagePolicy: FallbackToLogsOnError
    volumeMounts: [{name: v, mountPath: /v}]
---
apiVersion: v1
kind: Pod
metadata: {name: late}
spec:
  activeDeadlineSeconds: 1
  terminationGracePeriodSeconds: 0
  containers: [{name: c, image: 'busybox:1', command: [sleep, "60"]}]
---
apiVersion: v1
kind: Pod
metadata: {name: ready}
spec:
  terminationGracePeriodSeconds: 5
  os: {name: linux}
  volumes: [{name: v, hostPath: {path: ` + t.TempDir() + `}}]
  containers:
  - name: c
    image: busybox:1
    command: [sh, -c, "trap 'echo stopped by usr1 > /v/usr1; exit 0' USR1; httpd -p 8081 -h /; while :; do sleep .05; done"]
    readinessProbe: {tcpSocket: {port: 8081}, periodSeconds: 1}
    livenessProbe: {exec: {command: [test, -d, /bin]}}
    lifecycle: {preStop: {exec: {command: [sh, -c, "echo > /v/prestop"]}}, stopSignal: SIGUSR1}
    volumeMounts: [{name: v, mountPath: /v}]
`
	m := b.decode(yaml)
	b.apply(yaml, ApplyOptions{})
	if got, want := b.logs("life", "main"), "first\nside\nsecond\n"; got != want {
		t.Errorf("in this order: %q, want %q", got, want)
	}
	b.logs("life", "first")
	deadline := time.Now().Add(testenv.Patience(15 * time.Second))
	for {
		s, err := b.pod("life").Status()
		if err != nil {
			t.Fatal(err)
		}
		if s.Phase == "Failed" {
			main, again := s.ContainerStatuses[0], s.ContainerStatuses[1]
			if main.State.Terminated == nil || main.State.Terminated.Message != "so long\n" {
				t.Errorf("the last message: %+v", main.State.Terminated)
			}
			if again.RestartCount != 1 || again.State.Terminated == nil || again.State.Terminated.ExitCode != 3 {
				t.Errorf("what is restarted by a rule: %+v %+v", again, again.State.Terminated)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("phase %s%s", s.Phase, because(s))
		}
		time.Sleep(20 * time.Millisecond)
	}
	_, _, err := b.try(strings.Split(yaml, "---\n")[1], ApplyOptions{Wait: 10 * time.Second})
	if err != nil && !strings.Contains(err.Error(), "DeadlineExceeded") {
		t.Error(err)
	}
	b.logs("late", "c")
	for {
		s, err := b.pod("late").Status()
		if err != nil {
			t.Fatal(err)
		}
		if s.Phase == "Failed" && s.Reason == "DeadlineExceeded" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("phase %s, reason %s", s.Phase, s.Reason)
		}
		time.Sleep(20 * time.Millisecond)
	}
	if said := b.apply(strings.Split(yaml, "---\n")[2], ApplyOptions{Wait: 10 * time.Second}); said != "pod/ready unchanged\n" {
		t.Error(said)
	}
	if err := Delete(bg, m, b.Options, sandbox.StopOptions{}); err != nil {
		t.Error(err)
	}
	dir := m.Pods[2].Spec.Volumes[0].HostPath.Path
	for _, name := range []string{"usr1", "prestop"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Errorf("at its end: %v", err)
		}
	}
}

func (b *bench) served() {
	t := b.T
	yaml := `apiVersion: v1
kind: Pod
metadata: {name: served}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: c
    image: busybox:1
    command: [sh, -c, "echo from the pod > /tmp/index.html; exec httpd -f -p 80 -h /tmp"]
    ports: [{containerPort: 80, hostPort: 18765, hostIP: 127.0.0.1}]
    readinessProbe: {tcpSocket: {port: 80}, periodSeconds: 1}
`
	b.apply(yaml, ApplyOptions{Wait: 10 * time.Second})
	resp, err := http.Get("http://127.0.0.1:18765/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "from the pod\n" {
		t.Errorf("the host's port answers %q, %v", body, err)
	}
	// The port is taken now.
	_, _, err = b.try(strings.Replace(yaml, "served", "second", 1), ApplyOptions{})
	if err == nil || !strings.Contains(err.Error(), "served") {
		t.Errorf("a port that another pod publishes: %v", err)
	}
	if _, err := b.rt.Open("second"); err == nil {
		t.Error("half a pod is left")
	}
}

// propagated has a filesystem that the host shares be mounted in all ways, and one container
// with a terminal.
func (b *bench) propagated() {
	t := b.T
	host := t.TempDir()
	if err := unix.Mount("tmpfs", host, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(host, unix.MNT_DETACH) })
	if err := unix.Mount("", host, "", unix.MS_SHARED, ""); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(host, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", filepath.Join(host, "sub"), "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	b.apply(`apiVersion: v1
kind: Pod
metadata: {name: propagated}
spec:
  restartPolicy: Never
  volumes: [{name: v, hostPath: {path: `+host+`}}]
  containers:
  - name: c
    image: busybox:1
    securityContext: {privileged: true}
    `+shell(script(map[string]string{
		"none": "grep ' /none ' /proc/self/mountinfo | grep -c -e shared: -e master:", "slave": "grep ' /slave ' /proc/self/mountinfo | grep -c master:",
		"shared": "grep ' /shared ' /proc/self/mountinfo | grep -c shared:", "ro": "touch /ro/x 2>&1 | sed 's/.*: //'",
		"ro below": "touch /ro/sub/x && echo written", "rro below": "touch /rro/sub/x 2>&1 | sed 's/.*: //'",
	}))+`
    volumeMounts:
    - {name: v, mountPath: /none}
    - {name: v, mountPath: /slave, mountPropagation: HostToContainer}
    - {name: v, mountPath: /shared, mountPropagation: Bidirectional}
    - {name: v, mountPath: /ro, readOnly: true}
    - {name: v, mountPath: /rro, readOnly: true, recursiveReadOnly: Enabled}
  - name: terminal
    image: busybox:1
    tty: true
    stdin: true
    command: [sh, -c, "[ -t 0 ] && [ -t 1 ] && echo \"tty: $TERM\""]
`, ApplyOptions{})
	b.expects("propagated", "c", map[string]string{
		"none": "0", "slave": "1", "shared": "1", "ro": "Read-only file system", "ro below": "written", "rro below": "Read-only file system",
	})
	if got := b.logs("propagated", "terminal"); !strings.HasPrefix(got, "tty: xterm") {
		t.Errorf("the terminal: %q", got)
	}
}
