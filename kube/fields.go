package kube

// A Fate is what becomes of a field of a manifest.
type Fate string

const (
	// Done is acted on, or is a group of fields that have fates of their own.
	Done Fate = "done"
	// Moot has no meaning on one machine. It is accepted and told of.
	Moot Fate = "no meaning here"
	// Refused is an error, unless Options.Lenient makes it a warning.
	Refused Fate = "refused"
)

// A Field is a row of the table that says what becomes of each field.
type Field struct {
	Fate Fate
	// About is a sentence or two in Markdown: how it is done, why it is moot, or
	// what to do instead.
	About string
}

// Fields returns the row of each field, by the name of its Go type in the API and its name
// in JSON: PodSpec.hostNetwork. What is below a field that is not done has no rows. A test
// compares them with the API.
func Fields() map[string]Field {
	return map[string]Field{
		"Pod.kind":       {Done, "`Pod`."},
		"Pod.apiVersion": {Done, "`v1`."},
		"Pod.metadata":   {Done, ""},
		"Pod.spec":       {Done, ""},
		"Pod.status":     {Moot, "Written by a cluster; `podbox inspect` has the pod's own."},

		"ConfigMap.kind":       {Done, "`ConfigMap`."},
		"ConfigMap.apiVersion": {Done, "`v1`."},
		"ConfigMap.metadata":   {Done, ""},
		"ConfigMap.immutable":  {Done, "Applying other contents is then an error."},
		"ConfigMap.data":       {Done, "Keys and their texts; 1 MiB in all, with `binaryData`."},
		"ConfigMap.binaryData": {Done, "Keys and their contents in base64."},

		"Secret.kind":       {Done, "`Secret`."},
		"Secret.apiVersion": {Done, "`v1`."},
		"Secret.metadata":   {Done, ""},
		"Secret.immutable":  {Done, "Applying other contents is then an error."},
		"Secret.data":       {Done, "Keys and their contents in base64; 1 MiB in all, with `stringData`. Kept on tmpfs alone."},
		"Secret.stringData": {Done, "The same as plain text; it wins over `data`."},
		"Secret.type":       {Done, "`kubernetes.io/dockerconfigjson` and `kubernetes.io/dockercfg` are for `imagePullSecrets`; others are as good as `Opaque`."},

		"ObjectMeta.name":                       {Done, "The pod's name, hence an RFC 1123 label of at most 63 characters. ConfigMaps and Secrets may have dots."},
		"ObjectMeta.generateName":               {Refused, "Applying again would make another object; give a name."},
		"ObjectMeta.namespace":                  {Done, "Keeps ConfigMaps and Secrets of the same name apart, and is what `metadata.namespace` tells; `default` if empty. Pods have their names for themselves: the same one in two namespaces is an error."},
		"ObjectMeta.selfLink":                   {Moot, "Written by a cluster."},
		"ObjectMeta.uid":                        {Moot, "Each pod gets one of its own when it is made."},
		"ObjectMeta.resourceVersion":            {Moot, "Written by a cluster."},
		"ObjectMeta.generation":                 {Moot, "Written by a cluster."},
		"ObjectMeta.creationTimestamp":          {Moot, "Written by a cluster."},
		"ObjectMeta.deletionTimestamp":          {Moot, "Written by a cluster."},
		"ObjectMeta.deletionGracePeriodSeconds": {Moot, "Written by a cluster."},
		"ObjectMeta.labels":                     {Done, "The pod's labels (`podbox ls`, `inspect`), and for `fieldRef`."},
		"ObjectMeta.annotations":                {Done, "Kept, and for `fieldRef`. `podbox.io/shm-size` sets the size of the pod's `/dev/shm`, which is 64 MiB otherwise. `kubernetes.io/ingress-bandwidth` and `kubernetes.io/egress-bandwidth` limit what it receives and sends, in bits a second. `podbox.io/allow-from`, `podbox.io/allow-to` and `podbox.io/isolate` are what `podbox create` has as flags, words with blanks or commas between them. All but the first can be changed while the pod runs."},
		"ObjectMeta.ownerReferences":            {Moot, "Nothing here owns a pod."},
		"ObjectMeta.finalizers":                 {Moot, "Nobody here would take them away."},
		"ObjectMeta.managedFields":              {Moot, "Written by a cluster."},

		"PodSpec.volumes":                       {Done, "Made with the pod, and removed with it, but for claims and host paths."},
		"PodSpec.initContainers":                {Done, "Run one after the other before the others; those with `restartPolicy: Always` are sidecars."},
		"PodSpec.containers":                    {Done, "Started in their order."},
		"PodSpec.ephemeralContainers":           {Refused, "Use `podbox exec`, or `podbox run` into the pod."},
		"PodSpec.restartPolicy":                 {Done, "`Always`, `OnFailure` or `Never`, with the kubelet's back-off: 10 s, doubled up to 5 min."},
		"PodSpec.terminationGracePeriodSeconds": {Done, "How long containers have to end, `preStop` included; 30 if absent."},
		"PodSpec.activeDeadlineSeconds":         {Done, "After it the pod's containers are ended, and it has failed."},
		"PodSpec.dnsPolicy":                     {Done, "`Default`, `ClusterFirst` and `ClusterFirstWithHostNet` give the pod the host's resolvers, for there is no cluster's; `None` only those of `dnsConfig`."},
		"PodSpec.nodeSelector":                  {Moot, "There is one machine."},
		"PodSpec.serviceAccountName":            {Done, "Told by `fieldRef: spec.serviceAccountName`; there is no account of that name."},
		"PodSpec.serviceAccount":                {Moot, "The old name of `serviceAccountName`."},
		"PodSpec.automountServiceAccountToken":  {Moot, "There is no token to mount."},
		"PodSpec.nodeName":                      {Done, "Told by `fieldRef: spec.nodeName`; the host's name if absent. It chooses no machine."},
		"PodSpec.hostNetwork":                   {Done, "The pod has no network namespace of its own."},
		"PodSpec.hostPID":                       {Done, "Containers see the host's processes."},
		"PodSpec.hostIPC":                       {Done, "Containers share the host's System V and POSIX IPC."},
		"PodSpec.shareProcessNamespace":         {Done, "All containers see one another's processes; process 1 is the pod's pause."},
		"PodSpec.securityContext":               {Done, ""},
		"PodSpec.imagePullSecrets":              {Done, "Secrets with credentials for registries; one that is not there is a note, as with the kubelet."},
		"PodSpec.hostname":                      {Done, "The pod's name if absent."},
		"PodSpec.subdomain":                     {Done, "The pod's own line of `/etc/hosts` has the name `HOSTNAME.SUBDOMAIN.NAMESPACE.svc.cluster.local` too. No other pod can look it up."},
		"PodSpec.affinity":                      {Moot, "There is one machine."},
		"PodSpec.schedulerName":                 {Moot, "There is one machine."},
		"PodSpec.tolerations":                   {Moot, "There is one machine."},
		"PodSpec.hostAliases":                   {Done, "Lines of `/etc/hosts`."},
		"PodSpec.priorityClassName":             {Moot, "There is no class of priority."},
		"PodSpec.priority":                      {Moot, "No pod makes room for another."},
		"PodSpec.dnsConfig":                     {Done, ""},
		"PodSpec.readinessGates":                {Refused, "Nobody would set their conditions, and the pod would never be ready."},
		"PodSpec.runtimeClassName":              {Moot, "podbox itself runs the containers."},
		"PodSpec.enableServiceLinks":            {Moot, "There are no Services, so no variables of theirs."},
		"PodSpec.preemptionPolicy":              {Moot, "No pod makes room for another."},
		"PodSpec.overhead":                      {Moot, "It is for the accounts of a scheduler."},
		"PodSpec.topologySpreadConstraints":     {Moot, "There is one machine."},
		"PodSpec.setHostnameAsFQDN":             {Done, "The pod's host name is then the whole name that `subdomain` gives it, of at most 64 characters."},
		"PodSpec.os":                            {Done, "`linux`."},
		"PodSpec.hostUsers":                     {Done, "`false` gives each container a user namespace: the IDs 0 to 65535 in it are others on the host, the same for all of the pod. It takes Linux 5.19, and 6.3 with a volume in memory or a Secret."},
		"PodSpec.schedulingGates":               {Refused, "Nobody would open them, and the pod would never start."},
		"PodSpec.resourceClaims":                {Refused, "There are no drivers for dynamic resources."},
		"PodSpec.resources":                     {Done, "Limits of all containers together. What is requested reserves nothing."},
		"PodSpec.hostnameOverride":              {Done, "The host name, whatever `hostname` and `subdomain` say."},
		"PodSpec.schedulingGroup":               {Moot, "There is one machine."},
		"PodSpec.evictionResponders":            {Moot, "Nobody asks for an eviction."},

		"Volume.name":                  {Done, "An RFC 1123 label that no other volume of the pod has."},
		"Volume.hostPath":              {Done, ""},
		"Volume.emptyDir":              {Done, ""},
		"Volume.gcePersistentDisk":     {Refused, "Mount it on the host and use `hostPath`."},
		"Volume.awsElasticBlockStore":  {Refused, "Mount it on the host and use `hostPath`."},
		"Volume.gitRepo":               {Refused, "Kubernetes has disabled it; clone in an init container."},
		"Volume.secret":                {Done, "Files in memory."},
		"Volume.nfs":                   {Refused, "Mount it on the host and use `hostPath`."},
		"Volume.iscsi":                 {Refused, "Mount it on the host and use `hostPath`."},
		"Volume.glusterfs":             {Refused, "Mount it on the host and use `hostPath`."},
		"Volume.persistentVolumeClaim": {Done, "A named directory on the local disk that outlives the pod."},
		"Volume.rbd":                   {Refused, "Mount it on the host and use `hostPath`."},
		"Volume.flexVolume":            {Refused, "Mount it on the host and use `hostPath`."},
		"Volume.cinder":                {Refused, "Mount it on the host and use `hostPath`."},
		"Volume.cephfs":                {Refused, "Mount it on the host and use `hostPath`."},
		"Volume.flocker":               {Refused, "Mount it on the host and use `hostPath`."},
		"Volume.downwardAPI":           {Done, ""},
		"Volume.fc":                    {Refused, "Mount it on the host and use `hostPath`."},
		"Volume.azureFile":             {Refused, "Mount it on the host and use `hostPath`."},
		"Volume.configMap":             {Done, ""},
		"Volume.vsphereVolume":         {Refused, "Mount it on the host and use `hostPath`."},
		"Volume.quobyte":               {Refused, "Mount it on the host and use `hostPath`."},
		"Volume.azureDisk":             {Refused, "Mount it on the host and use `hostPath`."},
		"Volume.photonPersistentDisk":  {Refused, "Mount it on the host and use `hostPath`."},
		"Volume.projected":             {Done, "In memory if a Secret is among its sources."},
		"Volume.portworxVolume":        {Refused, "Mount it on the host and use `hostPath`."},
		"Volume.scaleIO":               {Refused, "Mount it on the host and use `hostPath`."},
		"Volume.storageos":             {Refused, "Mount it on the host and use `hostPath`."},
		"Volume.csi":                   {Refused, "There are no CSI drivers; mount it on the host and use `hostPath`."},
		"Volume.ephemeral":             {Done, "A directory on the disk that goes with the pod."},
		"Volume.image":                 {Done, "The image's files, read-only."},

		"HostPathVolumeSource.path": {Done, "Absolute; symbolic links in it are followed."},
		"HostPathVolumeSource.type": {Done, "All of Kubernetes' types, checked when a container is started."},

		"EmptyDirVolumeSource.medium":    {Done, "Empty: on the disk; `Memory`: a tmpfs. `HugePages` is refused."},
		"EmptyDirVolumeSource.sizeLimit": {Done, "In memory the kernel's limit. On the disk the pod is ended, and has failed, soon after it is exceeded."},
		"EmptyDirVolumeSource.mode":      {Refused, "The mode is 0777."},

		"SecretVolumeSource.secretName":  {Done, ""},
		"SecretVolumeSource.items":       {Done, "All keys if absent."},
		"SecretVolumeSource.defaultMode": {Done, "0644 if absent."},
		"SecretVolumeSource.optional":    {Done, "A Secret or key that is not there is no error then."},
		"SecretVolumeSource.defaultUser": {Done, "The owner of the files."},

		"KeyToPath.key":  {Done, ""},
		"KeyToPath.path": {Done, "Relative, without `..`."},
		"KeyToPath.mode": {Done, ""},
		"KeyToPath.user": {Done, "The owner of the file."},

		"PersistentVolumeClaimVolumeSource.claimName": {Done, "The name of the local volume, which is made when it is not there."},
		"PersistentVolumeClaimVolumeSource.readOnly":  {Done, "All mounts of it are."},

		"DownwardAPIVolumeSource.items":       {Done, ""},
		"DownwardAPIVolumeSource.defaultMode": {Done, "0644 if absent."},
		"DownwardAPIVolumeSource.defaultUser": {Done, "The owner of the files."},

		"DownwardAPIVolumeFile.path":             {Done, "Relative, without `..`."},
		"DownwardAPIVolumeFile.fieldRef":         {Done, "`metadata.name`, `.namespace`, `.uid`, `.labels`, `.annotations`, and one of either, as `metadata.labels['KEY']`."},
		"DownwardAPIVolumeFile.resourceFieldRef": {Done, ""},
		"DownwardAPIVolumeFile.mode":             {Done, ""},
		"DownwardAPIVolumeFile.user":             {Done, "The owner of the file."},

		"ObjectFieldSelector.apiVersion": {Done, "`v1`."},
		"ObjectFieldSelector.fieldPath":  {Done, ""},

		"ResourceFieldSelector.containerName": {Done, "The same container if absent, in its environment."},
		"ResourceFieldSelector.resource":      {Done, "`limits.` and `requests.` of `cpu`, `memory` and `ephemeral-storage`. A limit that is not set is what the machine has."},
		"ResourceFieldSelector.divisor":       {Done, "1 if absent; the quotient is rounded up."},

		"ConfigMapVolumeSource.name":        {Done, ""},
		"ConfigMapVolumeSource.items":       {Done, "All keys if absent."},
		"ConfigMapVolumeSource.defaultMode": {Done, "0644 if absent."},
		"ConfigMapVolumeSource.optional":    {Done, "A ConfigMap or key that is not there is no error then."},
		"ConfigMapVolumeSource.defaultUser": {Done, "The owner of the files."},

		"ProjectedVolumeSource.sources":     {Done, "A path that two of them give is an error."},
		"ProjectedVolumeSource.defaultMode": {Done, "0644 if absent."},
		"ProjectedVolumeSource.defaultUser": {Done, "The owner of the files."},

		"VolumeProjection.secret":              {Done, ""},
		"VolumeProjection.downwardAPI":         {Done, ""},
		"VolumeProjection.configMap":           {Done, ""},
		"VolumeProjection.serviceAccountToken": {Refused, "Nobody here gives out tokens."},
		"VolumeProjection.clusterTrustBundle":  {Refused, "There is no cluster to trust."},
		"VolumeProjection.podCertificate":      {Refused, "Nobody here signs certificates."},

		"SecretProjection.name":     {Done, ""},
		"SecretProjection.items":    {Done, "All keys if absent."},
		"SecretProjection.optional": {Done, ""},

		"DownwardAPIProjection.items": {Done, ""},

		"ConfigMapProjection.name":     {Done, ""},
		"ConfigMapProjection.items":    {Done, "All keys if absent."},
		"ConfigMapProjection.optional": {Done, ""},

		"EphemeralVolumeSource.volumeClaimTemplate": {Done, ""},

		"PersistentVolumeClaimTemplate.metadata": {Moot, "The volume is the pod's, and has no name of its own."},
		"PersistentVolumeClaimTemplate.spec":     {Done, ""},

		"PersistentVolumeClaimSpec.accessModes":               {Moot, "The volume is on this machine's disk."},
		"PersistentVolumeClaimSpec.selector":                  {Moot, "The volume is made for the pod."},
		"PersistentVolumeClaimSpec.resources":                 {Moot, "The disk is shared: nothing is reserved."},
		"PersistentVolumeClaimSpec.volumeName":                {Moot, "The volume is made for the pod."},
		"PersistentVolumeClaimSpec.storageClassName":          {Moot, "There is one kind of storage."},
		"PersistentVolumeClaimSpec.volumeMode":                {Done, "`Filesystem`."},
		"PersistentVolumeClaimSpec.dataSource":                {Refused, "The volume begins empty."},
		"PersistentVolumeClaimSpec.dataSourceRef":             {Refused, "The volume begins empty."},
		"PersistentVolumeClaimSpec.volumeAttributesClassName": {Moot, "There is one kind of storage."},

		"ImageVolumeSource.reference":  {Done, ""},
		"ImageVolumeSource.pullPolicy": {Done, "As `imagePullPolicy`."},

		"Container.name":                     {Done, "An RFC 1123 label that no other container of the pod has."},
		"Container.image":                    {Done, "As docker and podman read it: `nginx` is `docker.io/library/nginx:latest`."},
		"Container.command":                  {Done, "Instead of the image's ENTRYPOINT, and then without its CMD. `$(VAR)` is expanded, `$$(VAR)` is not."},
		"Container.args":                     {Done, "Instead of the image's CMD. `$(VAR)` is expanded."},
		"Container.workingDir":               {Done, "The image's if absent."},
		"Container.ports":                    {Done, ""},
		"Container.envFrom":                  {Done, "Later sources win, `env` wins over all. Keys that are no names of variables are left out and told of."},
		"Container.env":                      {Done, ""},
		"Container.resources":                {Done, ""},
		"Container.resizePolicy":             {Moot, "Resources are not changed while a container runs."},
		"Container.restartPolicy":            {Done, "Of init containers `Always` makes a sidecar. Of others it is said instead of the pod's."},
		"Container.restartPolicyRules":       {Done, ""},
		"Container.volumeMounts":             {Done, ""},
		"Container.volumeDevices":            {Refused, "Block volumes need a driver; mount the device on the host and use `hostPath`."},
		"Container.livenessProbe":            {Done, "When it fails the container is ended, and dealt with as its restart policy says."},
		"Container.readinessProbe":           {Done, "Told by `podbox inspect`."},
		"Container.startupProbe":             {Done, "The other probes wait for it."},
		"Container.lifecycle":                {Done, ""},
		"Container.terminationMessagePath":   {Done, "`/dev/termination-log` if absent."},
		"Container.terminationMessagePolicy": {Done, "`File` or `FallbackToLogsOnError`."},
		"Container.imagePullPolicy":          {Done, "`Always`, `IfNotPresent` or `Never`. If absent, `Always` for the tag `latest` or none, else `IfNotPresent`."},
		"Container.securityContext":          {Done, ""},
		"Container.stdin":                    {Done, "The input stays open for `podbox attach`."},
		"Container.stdinOnce":                {Done, "The input ends when the first who was attached to it leaves."},
		"Container.tty":                      {Done, ""},

		"ContainerPort.name":          {Done, "Probes and hooks may name it."},
		"ContainerPort.hostPort":      {Done, "Published on the host. With `hostNetwork` it must be `containerPort`."},
		"ContainerPort.containerPort": {Done, ""},
		"ContainerPort.protocol":      {Done, "`TCP`, `UDP` or `SCTP`."},
		"ContainerPort.hostIP":        {Done, "The host's address that `hostPort` is published on; all of them if absent."},

		"LocalObjectReference.name": {Done, ""},

		"EnvFromSource.prefix":       {Done, "Put before each name."},
		"EnvFromSource.configMapRef": {Done, ""},
		"EnvFromSource.secretRef":    {Done, ""},

		"ConfigMapEnvSource.name":     {Done, ""},
		"ConfigMapEnvSource.optional": {Done, ""},

		"SecretEnvSource.name":     {Done, ""},
		"SecretEnvSource.optional": {Done, ""},

		"EnvVar.name":      {Done, ""},
		"EnvVar.value":     {Done, "`$(VAR)` of variables before it is expanded; `$$(VAR)` is not."},
		"EnvVar.valueFrom": {Done, ""},

		"EnvVarSource.fieldRef":         {Done, "`metadata.name`, `.namespace`, `.uid`, `.labels['KEY']`, `.annotations['KEY']`, `spec.nodeName`, `spec.serviceAccountName`, `status.hostIP`, `status.hostIPs`, `status.podIP`, `status.podIPs`."},
		"EnvVarSource.resourceFieldRef": {Done, ""},
		"EnvVarSource.configMapKeyRef":  {Done, ""},
		"EnvVarSource.secretKeyRef":     {Done, "`podbox inspect` does not show the value."},
		"EnvVarSource.fileKeyRef":       {Refused, "Read the file in the container's command."},

		"ConfigMapKeySelector.name":     {Done, ""},
		"ConfigMapKeySelector.key":      {Done, ""},
		"ConfigMapKeySelector.optional": {Done, ""},

		"SecretKeySelector.name":     {Done, ""},
		"SecretKeySelector.key":      {Done, ""},
		"SecretKeySelector.optional": {Done, ""},

		"ResourceRequirements.limits":   {Done, "`cpu` is a quota, `memory` a limit of the cgroup. `ephemeral-storage` is told by `resourceFieldRef`, not enforced. Others are refused."},
		"ResourceRequirements.requests": {Done, "`cpu` is a weight; the limit's if absent. `memory` and `ephemeral-storage` reserve nothing. Others are refused."},
		"ResourceRequirements.claims":   {Refused, "There are no drivers for dynamic resources."},

		"ContainerRestartRule.action":    {Done, "`Restart`. `RestartAllContainers` is refused."},
		"ContainerRestartRule.exitCodes": {Done, ""},

		"ContainerRestartRuleOnExitCodes.operator": {Done, "`In` or `NotIn`."},
		"ContainerRestartRuleOnExitCodes.values":   {Done, ""},

		"VolumeMount.name":              {Done, ""},
		"VolumeMount.readOnly":          {Done, ""},
		"VolumeMount.recursiveReadOnly": {Done, "`Disabled`, `IfPossible` or `Enabled`."},
		"VolumeMount.mountPath":         {Done, "Absolute; made in the container if it is not there."},
		"VolumeMount.subPath":           {Done, "Of the volume, without `..`, and not of an image; a directory is made if it is not there. No symbolic link leads out of the volume."},
		"VolumeMount.mountPropagation":  {Done, "`None`, `HostToContainer`, or `Bidirectional` of a privileged container."},
		"VolumeMount.subPathExpr":       {Done, "`subPath` with `$(VAR)` expanded."},
		"VolumeMount.bindMountOptions":  {Refused, "Mounts have `nodev`."},

		"Probe.exec":                          {Done, ""},
		"Probe.httpGet":                       {Done, ""},
		"Probe.tcpSocket":                     {Done, ""},
		"Probe.grpc":                          {Done, ""},
		"Probe.initialDelaySeconds":           {Done, ""},
		"Probe.timeoutSeconds":                {Done, "1 if absent."},
		"Probe.periodSeconds":                 {Done, "10 if absent."},
		"Probe.successThreshold":              {Done, "1 if absent; 1 for liveness and startup."},
		"Probe.failureThreshold":              {Done, "3 if absent."},
		"Probe.terminationGracePeriodSeconds": {Done, "Instead of the pod's, when this probe has failed. Not of readiness."},

		"ExecAction.command": {Done, "A command line, run in the container without a shell. In probes and hooks nothing is expanded."},

		"HTTPGetAction.path":        {Done, "`/` if absent."},
		"HTTPGetAction.port":        {Done, "A number, or the name of one of the container's ports."},
		"HTTPGetAction.host":        {Done, "The pod's address if absent."},
		"HTTPGetAction.scheme":      {Done, "`HTTP` or `HTTPS`, without a look at the certificate."},
		"HTTPGetAction.httpHeaders": {Done, ""},
		"HTTPGetAction.protocol":    {Done, "`HTTP1`. `HTTP2` is refused."},

		"HTTPHeader.name":  {Done, ""},
		"HTTPHeader.value": {Done, ""},

		"TCPSocketAction.port": {Done, "A number, or the name of one of the container's ports."},
		"TCPSocketAction.host": {Done, "The pod's address if absent."},

		"GRPCAction.port":    {Done, ""},
		"GRPCAction.service": {Done, ""},
		"GRPCAction.mode":    {Done, "`Plaintext`. `TLS` is refused."},

		"Lifecycle.postStart":  {Done, "Done when the container has been started; if it fails the container is ended."},
		"Lifecycle.preStop":    {Done, "Done before the container is asked to end, in the time that it has for that."},
		"Lifecycle.stopSignal": {Done, "The image's, or SIGTERM, if absent. Needs `spec.os.name: linux`."},

		"LifecycleHandler.exec":      {Done, ""},
		"LifecycleHandler.httpGet":   {Done, ""},
		"LifecycleHandler.tcpSocket": {Done, "Connects once. The kubelet accepts it and fails."},
		"LifecycleHandler.sleep":     {Done, ""},

		"SleepAction.seconds": {Done, ""},

		"SecurityContext.capabilities":             {Done, "Added to and dropped from those that containers have by default."},
		"SecurityContext.privileged":               {Done, "All capabilities, the host's devices, no filter, and `/sys` and `/proc` to write to."},
		"SecurityContext.seLinuxOptions":           {Done, ""},
		"SecurityContext.windowsOptions":           {Refused, "Containers are Linux's."},
		"SecurityContext.runAsUser":                {Done, "The image's USER if absent."},
		"SecurityContext.runAsGroup":               {Done, "The user's group in the image if absent, or 0."},
		"SecurityContext.runAsNonRoot":             {Done, "The container is not started if its user is 0, or a name that only the image knows."},
		"SecurityContext.readOnlyRootFilesystem":   {Done, ""},
		"SecurityContext.allowPrivilegeEscalation": {Done, "`false` sets no_new_privs. If absent it is not set."},
		"SecurityContext.procMount":                {Done, "`Default` or, with `hostUsers: false`, `Unmasked`."},
		"SecurityContext.seccompProfile":           {Done, ""},
		"SecurityContext.appArmorProfile":          {Done, ""},

		"Capabilities.add":  {Done, "With or without `CAP_`; `ALL`."},
		"Capabilities.drop": {Done, "With or without `CAP_`; `ALL`."},

		"SELinuxOptions.user":  {Done, "Part of the label; the host must use SELinux."},
		"SELinuxOptions.role":  {Done, ""},
		"SELinuxOptions.type":  {Done, ""},
		"SELinuxOptions.level": {Done, ""},

		"SeccompProfile.type":             {Done, "`RuntimeDefault`, which a container without a profile has too (in a cluster it would be `Unconfined`), `Unconfined` or `Localhost`."},
		"SeccompProfile.localhostProfile": {Done, "A file below `/var/lib/kubelet/seccomp`, where the kubelet looks."},

		"AppArmorProfile.type":             {Done, "`Unconfined`, `Localhost`, or `RuntimeDefault`, which is what the host has for `podbox`, hence none."},
		"AppArmorProfile.localhostProfile": {Done, "The name of a profile that the host has loaded."},

		"PodSecurityContext.seLinuxOptions":           {Done, ""},
		"PodSecurityContext.windowsOptions":           {Refused, "Containers are Linux's."},
		"PodSecurityContext.runAsUser":                {Done, "For containers that do not say it themselves."},
		"PodSecurityContext.runAsGroup":               {Done, "For containers that do not say it themselves."},
		"PodSecurityContext.runAsNonRoot":             {Done, "For containers that do not say it themselves."},
		"PodSecurityContext.supplementalGroups":       {Done, "Further groups of the containers' processes."},
		"PodSecurityContext.supplementalGroupsPolicy": {Done, "`Merge` adds the user's groups in the image; `Strict` does not."},
		"PodSecurityContext.fsGroup":                  {Done, "A group of the containers' processes, to which volumes belong but those of the host."},
		"PodSecurityContext.sysctls":                  {Done, "Those of the pod's own namespaces: `net.*`, `kernel.shm*`, `kernel.msg*`, `kernel.sem`, `fs.mqueue.*`."},
		"PodSecurityContext.fsGroupChangePolicy":      {Done, "`Always` or `OnRootMismatch`; it is about claims, for other volumes begin empty."},
		"PodSecurityContext.seccompProfile":           {Done, "For containers that do not say it themselves."},
		"PodSecurityContext.appArmorProfile":          {Done, "For containers that do not say it themselves."},
		"PodSecurityContext.seLinuxChangePolicy":      {Moot, "Volumes are not relabelled."},

		"Sysctl.name":  {Done, "With dots, or with slashes."},
		"Sysctl.value": {Done, ""},

		"HostAlias.ip":        {Done, ""},
		"HostAlias.hostnames": {Done, ""},

		"PodDNSConfig.nameservers": {Done, "At most 3. Behind those of the host."},
		"PodDNSConfig.searches":    {Done, "At most 32. Behind those of the host."},
		"PodDNSConfig.options":     {Done, ""},

		"PodDNSConfigOption.name":  {Done, ""},
		"PodDNSConfigOption.value": {Done, ""},

		"PodOS.name": {Done, "`linux`."},
	}
}
