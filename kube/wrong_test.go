package kube

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// podOf returns a pod with these lines of its spec besides one container; of the container
// it has these.
func podOf(spec, container string) string {
	return "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n" + indent(spec, "  ") +
		"  containers:\n  - name: c\n    image: i\n" + indent(container, "    ")
}

func indent(lines, by string) string {
	if lines == "" {
		return ""
	}
	return by + strings.ReplaceAll(strings.TrimSuffix(lines, "\n"), "\n", "\n"+by) + "\n"
}

// TestWrong compares all that is said of manifests with one thing wrong. Where a line begins
// with a colon it is in a.yaml, document 1.
func TestWrong(t *testing.T) {
	label := wantLabel
	for _, tt := range []struct{ yaml, want string }{
		// What is no manifest.
		{"", "no Pod, ConfigMap or Secret"},
		{"# nothing\n---\n---\n", "no Pod, ConfigMap or Secret"},
		{"a: [1, 2", ", line 1: did not find expected ',' or ']'"},
		{"\ta: 1", ", line 1: found character that cannot start any token"},
		{"hello", `, line 1: "hello": want a mapping with apiVersion, kind and metadata`},
		{"[1]", `, line 1: a list: want a mapping with apiVersion, kind and metadata`},
		{"a: 1", ", line 1: kind: want Pod, ConfigMap or Secret"},
		{"{\"kind\": \"Pod\", \"kind\": \"Pod\"}", `, line 1: apiVersion: "": want v1`},
		{"apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}", `, line 2: kind: Deployment "d": want Pod, ConfigMap or Secret`},
		{"apiVersion: v2\nkind: Pod\nmetadata: {name: d}", `, line 1: apiVersion: "v2": want v1`},
		{"apiVersion: v1\nkind: Service", `, line 2: kind: Service: want Pod, ConfigMap or Secret`},
		{"a: *b", ", line 1: unknown anchor 'b' referenced"},
		{"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\ndata: {a: !x b}", `, line 4: data[a]: want no tag !x`},
		{"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\ndata: {a: {b: c}}", `, line 4: data[a]: a mapping: want a string: put it in quotes`},
		{"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\ndata: {a: b}\ndata: {c: d}", `, line 5: data: given twice`},
		{"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\ndata: {yes: b}", `, line 4: data: key yes: want a string: put it in quotes`},
		{"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\ndata: {'a b': c}", `data[a b]: "a b": a valid config key must consist of`},
		{"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: M}", `, line 3: metadata.name: "M": a lowercase RFC 1123 subdomain`},
		{"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m, generateName: m-}", `, line 3: metadata.generateName: refused: Applying again would make another object; give a name`},
		{"apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {a: hunter2!}", `, line 4: data[a]: what is there: want base64`},
		{"apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ntype: kubernetes.io/dockerconfigjson", `data[.dockerconfigjson]: want it in a Secret of type kubernetes.io/dockerconfigjson`},
		{"apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {}", `, line 4: spec.containers: want at least one`},
		{"apiVersion: v1\nkind: Pod\nmetadata: {}\nspec: {containers: [{name: c, image: i}]}", `, line 3: metadata.name: want a name`},
		{"apiVersion: v1\nkind: Pod\nmetadata: {name: a.b}\nspec: {containers: [{name: c, image: i}]}", `, line 3: metadata.name: "a.b": want ` + label},
		{"apiVersion: v1\nkind: Pod\nmetadata: {name: p, labels: {'a b': c}}\nspec: {containers: [{name: c, image: i}]}", `metadata.labels[a b]: "a b": name part must consist of`},
		{"apiVersion: v1\nkind: Pod\nmetadata: {name: p, annotations: {podbox.io/shm-size: much}}\nspec: {containers: [{name: c, image: i}]}", `, line 3: metadata.annotations[podbox.io/shm-size]: "much": want a quantity such as 256Mi`},
		{"apiVersion: v1\nkind: Pod\nmetadata: {name: p, annotations: {podbox.io/smh-size: 1Mi}}\nspec: {containers: [{name: c, image: i}]}", `, line 3: metadata.annotations[podbox.io/smh-size]: no such annotation: want podbox.io/shm-size, podbox.io/allow-from, podbox.io/allow-to or podbox.io/isolate`},
		{annotated("kubernetes.io/ingress-bandwidth: 10MB"), `, line 3: metadata.annotations[kubernetes.io/ingress-bandwidth]: rate "10MB": invalid value: want bits a second, such as 10M, 512Ki, 1G or 10mbit`},
		{annotated("kubernetes.io/egress-bandwidth: '0'"), `, line 3: metadata.annotations[kubernetes.io/egress-bandwidth]: "0": invalid value: want from 1k to 1P bits a second`},
		{annotated("podbox.io/allow-from: 'web, 10.0.0.1/8'"), `, line 3: metadata.annotations[podbox.io/allow-from]: "10.0.0.1/8": invalid value: the network is 10.0.0.0/8`},
		{annotated("podbox.io/allow-to: ''"), `, line 3: metadata.annotations[podbox.io/allow-to]: invalid value: want none, for nobody, or whom to allow`},
		{annotated("podbox.io/isolate: team"), `, line 3: metadata.annotations[podbox.io/isolate]: "team": want the key of a label of the pod`},

		{podOf("", "") + "---\n" + podOf("", ""), `a.yaml: document 2, line 11: metadata.name: "p": there is one of that name in a.yaml, document 1`},
		{"apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Node\n  metadata: {name: n}", `, line 5: items[0].kind: Node "n": want Pod, ConfigMap or Secret`},
		{"apiVersion: v1\nkind: List\nitems: {}", `, line 3: items: a mapping: want a list`},

		// Fields that there are not, and types.
		{podOf("contaners: []", ""), `, line 5: spec.contaners: no such field: did you mean containers?`},
		{podOf("hostnetwork: true", ""), `, line 5: spec.hostnetwork: no such field: did you mean hostNetwork?`},
		{podOf("xyzzy: 1", ""), `, line 5: spec.xyzzy: no such field`},
		{podOf("hostNetwork: 1", ""), `, line 5: spec.hostNetwork: 1: want true or false`},
		{podOf("terminationGracePeriodSeconds: 1.5", ""), `, line 5: spec.terminationGracePeriodSeconds: 1.5: want a whole number`},
		{podOf("", "image: x"), `, line 8: spec.containers[0].image: given twice`},
		{podOf("", "command: ls"), `, line 8: spec.containers[0].command: "ls": want a list`},
		{podOf("", "command: [ls, 1]"), `, line 8: spec.containers[0].command[1]: 1: want a string: put it in quotes`},
		{podOf("", "command: [ls, null]"), `, line 8: spec.containers[0].command[1]: want a value`},
		{podOf("", "env: [{name: A, value: yes}]"), `, line 8: spec.containers[0].env[0].value: "yes": want a string: put it in quotes`},
		{podOf("", "env: [{name: A, value: 1.0}]"), `, line 8: spec.containers[0].env[0].value: 1.0: want a string: put it in quotes`},
		{podOf("", "ports: [{containerPort: 99999999999}]"), `, line 8: spec.containers[0].ports[0].containerPort: 99999999999: want a whole number of at most 32 bits`},
		{podOf("", "resources: {limits: {memory: 64MB}}"), `, line 8: spec.containers[0].resources.limits[memory]: "64MB": want a quantity such as 250m, 0.5 or 64Mi`},
		{podOf("", "resources: [1]"), `, line 8: spec.containers[0].resources: a list: want a mapping`},

		// What is refused.
		{podOf("ephemeralContainers: [{name: e, image: i}]", ""), `, line 5: spec.ephemeralContainers: refused: Use podbox exec, or podbox run into the pod`},
		{podOf("volumes: [{name: v, nfs: {server: s, path: /}}]", ""), `, line 5: spec.volumes[0].nfs: refused: Mount it on the host and use hostPath`},
		{podOf("volumes: [{name: v, projected: {sources: [{serviceAccountToken: {path: t}}]}}]", ""), `, line 5: spec.volumes[0].projected.sources[0].serviceAccountToken: refused: Nobody here gives out tokens`},
		{podOf("readinessGates: [{conditionType: a}]", ""), `, line 5: spec.readinessGates: refused: Nobody would set their conditions, and the pod would never be ready`},
		{podOf("", "resources: {limits: {nvidia.com/gpu: 1}}"), `, line 8: spec.containers[0].resources.limits[nvidia.com/gpu]: refused: want cpu, memory or ephemeral-storage`},

		// Values of the pod.
		{podOf("restartPolicy: always", ""), `, line 5: spec.restartPolicy: "always": want Always, OnFailure or Never`},
		{podOf("terminationGracePeriodSeconds: -1", ""), `, line 5: spec.terminationGracePeriodSeconds: -1: want a number from 0 to 2147483647`},
		{podOf("activeDeadlineSeconds: 0", ""), `, line 5: spec.activeDeadlineSeconds: 0: want a number from 1 to 2147483647`},
		{podOf("dnsPolicy: Cluster", ""), `, line 5: spec.dnsPolicy: "Cluster": want ClusterFirst, ClusterFirstWithHostNet, Default or None`},
		{podOf("dnsPolicy: None", ""), `, line 4: spec.dnsConfig.nameservers: want at least one with dnsPolicy None`},
		{podOf("dnsConfig: {nameservers: [ns.example]}", ""), `, line 5: spec.dnsConfig.nameservers[0]: "ns.example": want an IP address`},
		{podOf("dnsConfig: {nameservers: [192.0.2.1, 192.0.2.2, 192.0.2.3, 192.0.2.4]}", ""), `, line 5: spec.dnsConfig.nameservers: 4: want at most 3`},
		{podOf("hostname: A", ""), `, line 5: spec.hostname: "A": a lowercase RFC 1123 label`},
		{podOf("hostname: a-name-that-is-not-short\nsubdomain: nor-is-this-one\nsetHostnameAsFQDN: true", ""), `, line 7: spec.setHostnameAsFQDN: "a-name-that-is-not-short.nor-is-this-one.default.svc.cluster...": want at most 64 characters`},
		{podOf("hostAliases: [{ip: 1.2.3, hostnames: [a]}]", ""), `, line 5: spec.hostAliases[0].ip: "1.2.3": want an IP address`},
		{podOf("hostPID: true\nshareProcessNamespace: true", ""), `, line 6: spec.shareProcessNamespace: want false with hostPID`},
		{podOf("hostUsers: false\nhostNetwork: true", ""), `, line 5: spec.hostUsers: false: want true with hostNetwork`},
		{podOf("os: {name: windows}", ""), `, line 5: spec.os.name: "windows": want linux`},
		{podOf("securityContext: {runAsUser: -5}", ""), `, line 5: spec.securityContext.runAsUser: -5: want a number from 0 to 2147483647`},
		{podOf("securityContext: {sysctls: [{name: kernel.panic, value: '1'}]}", ""), `, line 5: spec.securityContext.sysctls[0].name: "kernel.panic": want one of a pod's own: net.*, kernel.shm*, kernel.msg*, kernel.sem or fs.mqueue.*`},
		{podOf("securityContext: {supplementalGroupsPolicy: None}", ""), `, line 5: spec.securityContext.supplementalGroupsPolicy: "None": want Merge or Strict`},
		{podOf("securityContext: {seccompProfile: {type: Localhost}}", ""), `, line 5: spec.securityContext.seccompProfile.localhostProfile: want a file with type Localhost`},
		{podOf("initContainers: [{name: c, image: i}]", ""), `, line 7: spec.containers[0].name: "c": want each name once`},
		{podOf("initContainers: [{name: j, image: i, livenessProbe: {exec: {command: [a]}}}]", ""), `, line 5: spec.initContainers[0].livenessProbe: want none of an init container that is no sidecar`},

		// Volumes.
		{podOf("volumes: [{name: v}, {name: v}]", ""), `, line 5: spec.volumes[1].name: "v": want each name once`},
		{podOf("volumes: [{name: v, emptyDir: {}, hostPath: {path: /}}]", ""), `, line 5: spec.volumes[0]: emptyDir and hostPath: want one of them`},
		{podOf("volumes: [{name: v, emptyDir: {medium: HugePages}}]", ""), `, line 5: spec.volumes[0].emptyDir.medium: "HugePages": want Memory`},
		{podOf("volumes: [{name: v, emptyDir: {sizeLimit: 1 Gi}}]", ""), `, line 5: spec.volumes[0].emptyDir.sizeLimit: "1 Gi": want a quantity such as 250m, 0.5 or 64Mi`},
		{podOf("volumes: [{name: v, hostPath: {path: a/b}}]", ""), `, line 5: spec.volumes[0].hostPath.path: "a/b": want an absolute path without ".."`},
		{podOf("volumes: [{name: v, hostPath: {path: /, type: Dir}}]", ""), `, line 5: spec.volumes[0].hostPath.type: "Dir": want DirectoryOrCreate,`},
		{podOf("volumes: [{name: v, configMap: {name: m, defaultMode: 01000}}]", ""), `, line 5: spec.volumes[0].configMap.defaultMode: "01000": want a mode from 0 to 0777`},
		{podOf("volumes: [{name: v, secret: {secretName: m, items: [{key: a, path: ../b}]}}]", ""), `, line 5: spec.volumes[0].secret.items[0].path: "../b": want a relative path without ".." that does not begin with two dots`},
		{podOf("volumes: [{name: v, downwardAPI: {items: [{path: a, fieldRef: {fieldPath: status.podIP}}]}}]", ""), `, line 5: spec.volumes[0].downwardAPI.items[0].fieldRef.fieldPath: "status.podIP": want metadata.name,`},
		{podOf("volumes: [{name: v, downwardAPI: {items: [{path: a, resourceFieldRef: {resource: limits.cpu, containerName: x}}]}}]", ""), `resourceFieldRef.containerName: "x": want the name of a container of the pod`},
		{podOf("volumes: [{name: v, persistentVolumeClaim: {}}]", ""), `, line 5: spec.volumes[0].persistentVolumeClaim.claimName: want the name of a volume`},

		// Containers.
		{podOf("", "imagePullPolicy: Sometimes"), `, line 8: spec.containers[0].imagePullPolicy: "Sometimes": want Always, IfNotPresent or Never`},
		{podOf("", "workingDir: a"), `, line 8: spec.containers[0].workingDir: "a": want an absolute path`},
		{podOf("", "ports: [{containerPort: 0}]"), `, line 8: spec.containers[0].ports[0].containerPort: 0: want a number from 1 to 65535`},
		{podOf("", "ports: [{containerPort: 1, hostPort: 70000}]"), `, line 8: spec.containers[0].ports[0].hostPort: 70000: want a number from 1 to 65535`},
		{podOf("", "ports: [{containerPort: 1, protocol: tcp}]"), `, line 8: spec.containers[0].ports[0].protocol: "tcp": want TCP, UDP or SCTP`},
		{podOf("", "ports: [{containerPort: 1, hostPort: 2}, {containerPort: 2, hostPort: 2}]"), `, line 8: spec.containers[0].ports[1].hostPort: 2: want each port once`},
		{podOf("hostNetwork: true", "ports: [{containerPort: 1, hostPort: 2}]"), `, line 9: spec.containers[0].ports[0].hostPort: 2: want containerPort, 1, with hostNetwork`},
		{podOf("", "env: [{name: A=B, value: a}]"), `, line 8: spec.containers[0].env[0].name: "A=B": a valid environment variable name must consist only of printable ASCII characters other than '='`},
		{podOf("", "env: [{name: A, valueFrom: {}}]"), `, line 8: spec.containers[0].env[0].valueFrom: want one of fieldRef, resourceFieldRef, configMapKeyRef or secretKeyRef`},
		{podOf("", "env: [{name: A, valueFrom: {fieldRef: {fieldPath: spec.image}}}]"), `, line 8: spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: "spec.image": want metadata.name,`},
		{podOf("", "env: [{name: A, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 1Mi}}}]"), `, line 8: spec.containers[0].env[0].valueFrom.resourceFieldRef.divisor: "1Mi": want 1m or 1`},
		{podOf("", "envFrom: [{prefix: A}]"), `, line 8: spec.containers[0].envFrom[0]: want one of configMapRef or secretRef`},
		{podOf("", "volumeMounts: [{name: v, mountPath: /v}]"), `, line 8: spec.containers[0].volumeMounts[0].name: "v": want the name of a volume of the pod`},
		{podOf("volumes: [{name: v}]", "volumeMounts: [{name: v, mountPath: v}]"), `, line 9: spec.containers[0].volumeMounts[0].mountPath: "v": want an absolute path without "..", and not /`},
		{podOf("volumes: [{name: v}]", "volumeMounts: [{name: v, mountPath: /v}, {name: v, mountPath: /v/}]"), `, line 9: spec.containers[0].volumeMounts[1].mountPath: "/v/": want each path once`},
		{podOf("volumes: [{name: v}]", "volumeMounts: [{name: v, mountPath: /v, subPath: a/../../b}]"), `, line 9: spec.containers[0].volumeMounts[0].subPath: "a/../../b": want a relative path without ".."`},
		{podOf("volumes: [{name: v}]", "volumeMounts: [{name: v, mountPath: /v, mountPropagation: Bidirectional}]"), `, line 9: spec.containers[0].volumeMounts[0].mountPropagation: Bidirectional: want a privileged container`},
		{podOf("volumes: [{name: v}]", "volumeMounts: [{name: v, mountPath: /v, recursiveReadOnly: Enabled}]"), `, line 9: spec.containers[0].volumeMounts[0].recursiveReadOnly: Enabled: want readOnly: true`},
		{podOf("", "resources: {requests: {cpu: 2}, limits: {cpu: 1}}"), `, line 8: spec.containers[0].resources.requests[cpu]: "2": want no more than the limit, 1`},
		{podOf("", "resources: {limits: {memory: -1}}"), `, line 8: spec.containers[0].resources.limits[memory]: "-1": want no negative quantity`},
		{podOf("", "livenessProbe: {}"), `, line 8: spec.containers[0].livenessProbe: want one of exec, httpGet, tcpSocket or grpc`},
		{podOf("", "livenessProbe: {httpGet: {port: web}}"), `, line 8: spec.containers[0].livenessProbe.httpGet.port: "web": want a number, or the name of a port of the container`},
		{podOf("", "livenessProbe: {exec: {command: [a]}, successThreshold: 2}"), `, line 8: spec.containers[0].livenessProbe.successThreshold: 2: want 1 but for readiness`},
		{podOf("", "readinessProbe: {tcpSocket: {port: 0}}"), `, line 8: spec.containers[0].readinessProbe.tcpSocket.port: 0: want a number from 1 to 65535`},
		{podOf("", "readinessProbe: {httpGet: {port: 1, httpHeaders: [{name: 'a b', value: c}]}}"), `, line 8: spec.containers[0].readinessProbe.httpGet.httpHeaders[0].name: "a b": a valid HTTP header`},
		{podOf("", "lifecycle: {preStop: {sleep: {seconds: 31}}}"), `, line 8: spec.containers[0].lifecycle.preStop.sleep.seconds: 31: want a number from 0 to 30`},
		{podOf("", "lifecycle: {stopSignal: SIGUSR1}"), `, line 8: spec.containers[0].lifecycle.stopSignal: want spec.os.name: linux with it`},
		{podOf("os: {name: linux}", "lifecycle: {stopSignal: USR1}"), `, line 9: spec.containers[0].lifecycle.stopSignal: "USR1": want a signal such as SIGUSR1`},
		{podOf("", "restartPolicyRules: [{action: Restart, exitCodes: {operator: In, values: [1]}}]"), `, line 8: spec.containers[0].restartPolicyRules: want restartPolicy with them`},
		{podOf("", "securityContext: {capabilities: {add: [NET_ADMINS]}}"), `, line 8: spec.containers[0].securityContext.capabilities.add[0]: "NET_ADMINS": want a capability such as NET_ADMIN, or ALL`},
		{podOf("", "securityContext: {privileged: true, allowPrivilegeEscalation: false}"), `, line 8: spec.containers[0].securityContext.allowPrivilegeEscalation: false: want true of a container that is privileged or has SYS_ADMIN`},
		{podOf("", "securityContext: {procMount: Unmasked}"), `, line 8: spec.containers[0].securityContext.procMount: Unmasked: want hostUsers: false`},
		{podOf("", "terminationMessagePolicy: Log"), `, line 8: spec.containers[0].terminationMessagePolicy: "Log": want File or FallbackToLogsOnError`},
	} {
		want := tt.want
		if strings.HasPrefix(want, ",") || strings.HasPrefix(want, ":") {
			want = "a.yaml: document 1" + want
		}
		m, err := Decode([]Source{{"a.yaml", []byte(tt.yaml)}}, DecodeOptions{})
		switch {
		case err == nil:
			t.Errorf("%s\nis taken for right: %+v", tt.yaml, m.Pods)
		case !errors.Is(err, ErrInvalid):
			t.Errorf("%v: does not match ErrInvalid", err)
		case strings.Contains(err.Error(), "\n"):
			t.Errorf("more than one line:\n%v", err)
		case !strings.Contains(err.Error(), want):
			t.Errorf("%s\n got %v\nwant %s", tt.yaml, err, want)
		}
	}
}

// TestAllWrong has all that is wrong told at once, and only so much of it.
func TestAllWrong(t *testing.T) {
	_, err := Decode([]Source{{"a.yaml", []byte(podOf("a: 1\nb: 2", "c: 3"))}, {"b.yaml", []byte("x: 1")}}, DecodeOptions{})
	if err == nil || strings.Count(err.Error(), "\n") != 3 {
		t.Errorf("want four lines, got\n%v", err)
	}
	_, err = Decode([]Source{{"a.yaml", []byte(strings.Repeat("---\nx: 1\n", 100))}}, DecodeOptions{})
	if err == nil || !strings.HasSuffix(err.Error(), "\nand 50 more like these: invalid") && !strings.Contains(err.Error(), "and 50 more like these") {
		t.Errorf("got\n%v", err)
	}
}

// TestLimits has what would take long, or much memory, be refused before it does.
func TestLimits(t *testing.T) {
	config := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\n"
	var many strings.Builder
	for i := range 1001 {
		fmt.Fprintf(&many, "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: m%d}\n", i)
	}
	for name, tt := range map[string]struct{ yaml, want string }{
		"document":  {config + "data:\n  a: " + strings.Repeat("x", 10<<20), "document 1, line 1: larger than 3 MiB, which is what the Kubernetes API accepts"},
		"data":      {config + "data:\n  a: " + strings.Repeat("x", 2<<20), "data: 2097152 bytes: want at most 1048576"},
		"depth":     {"a: " + strings.Repeat("[", 20000), "document 1"},
		"deep json": {`{"apiVersion":"v1","kind":"Pod","spec":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + "}", "spec"},
		"aliases": {
			config + "data:\n  z: &z [" + strings.Repeat("x,", 99) + "x]\n" + "  y: &y [" + strings.Repeat("*z,", 99) + "*z]\n  w: [" + strings.Repeat("*y,", 99) + "*y]\n",
			"want a string",
		},
		"alias bomb": {
			"apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  hostAliases:\n  - &a {ip: 1.2.3.4, hostnames: &h [" + strings.Repeat("a,", 999) + "a]}\n" +
				strings.Repeat("  - *a\n", 1000) + "  containers: [{name: c, image: i}]\n",
			"the document has more than 100000 values, its aliases expanded",
		},
		"alias of a long text": {
			"apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  containers:\n  - name: c\n    image: i\n    command:\n    - &a " + strings.Repeat("x", 1<<20) + "\n" +
				strings.Repeat("    - *a\n", 1000),
			"the document has more than 6 MiB, its aliases expanded",
		},
		"merge bomb": {
			"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\ndata: &a {<<: *a, b: c}\n", "",
		},
		"itself": {"apiVersion: v1\nkind: Pod\nmetadata: &m\n  name: p\n  labels: *m\n", ""},
		"many":   {many.String(), "want at most 1000 documents"},
		"lists":  {"{apiVersion: v1, kind: List, items: [{apiVersion: v1, kind: List, items: [{apiVersion: v1, kind: List, items: [{apiVersion: v1, kind: List, items: []}]}]}]}", "want no more than a list of lists"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Decode([]Source{{"a.yaml", []byte(tt.yaml)}}, DecodeOptions{})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %.300v, want %s", err, tt.want)
			}
		})
	}
}

// TestLenient has what is refused be dropped and told of.
func TestLenient(t *testing.T) {
	text := podOf("readinessGates: [{conditionType: a}]\nnodeSelector: {a: b}", "")
	m, err := Decode([]Source{{"a.yaml", []byte(text)}}, DecodeOptions{Lenient: true})
	if err != nil {
		t.Fatal(err)
	}
	if m.Pods[0].Spec.ReadinessGates != nil {
		t.Error("it was not dropped")
	}
	if got, want := strings.Join(m.Warnings, "\n"), "a.yaml: document 1, line 5: spec.readinessGates: refused: Nobody would set their conditions, and the pod would never be ready"; got != want {
		t.Errorf("warned of %q, want %q", got, want)
	}
	if got, want := strings.Join(m.Notes, "\n"), "pod/p: no meaning on one machine: spec.nodeSelector"; got != want {
		t.Errorf("noted %q, want %q", got, want)
	}
	// What every pod has that comes from a cluster.
	token := podOf("volumes: [{name: v, projected: {sources: [{serviceAccountToken: {path: t}}, {configMap: {name: ca}}]}}]", "volumeMounts: [{name: v, mountPath: /v}]")
	if m, err := Decode([]Source{{"a.yaml", []byte(token)}}, DecodeOptions{Lenient: true}); err != nil || len(m.Pods[0].Spec.Volumes[0].Projected.Sources) != 1 {
		t.Errorf("%v", err)
	}
	if _, err := Decode([]Source{{"a.yaml", []byte(podOf("unknown: 1", ""))}}, DecodeOptions{Lenient: true}); err == nil {
		t.Error("what Kubernetes does not know is taken")
	}
}

// annotated is a pod with an annotation, in its third line.
func annotated(annotation string) string {
	return "apiVersion: v1\nkind: Pod\nmetadata: {name: p, annotations: {" + annotation + "}}\nspec: {containers: [{name: c, image: i}]}"
}
