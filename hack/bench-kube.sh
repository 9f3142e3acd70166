#!/usr/bin/env bash
#
# Measures Pod YAML and images beside their peers on this machine, all in one run, and
# prints a report in Markdown.
#
# usage: [ROWS=REGEX] [RUNS=N] hack/bench-kube.sh [--out FILE]
#
#   apply   podbox apply of a pod of two containers, until both run, against podman kube
#           play of the same file; with nothing to do
#   delete  podbox delete      against podman kube down
#   start   podbox run --image against podbox run --rootfs of the same files
#   load    an image of 10 layers and 500 MB, against podman and umoci: bench-images.sh
#   memory  the supervisor of two containers with three probes each
#
# ROWS chooses among these (all). RUNS is the number of runs of a fast command (200);
# slower ones have a quarter or a tenth. Below 20 is for a look whether it works: all
# is done once, and figures mean little. The sides take turns, in five rounds.
#
# It needs root, hyperfine, busybox, bin/podbox and bin/podbox-kube (make build), those
# peers that are to be compared, and for the row load what bench-images.sh needs. All runs
# in network, mount and PID namespaces of its own and, but for load, with records, images
# and storage on a tmpfs of its own, so nothing of it touches the host's pods, links or
# storage, and nothing is left of it.

set -euo pipefail

hack=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=hack/bench-room.sh
source "$hack/bench-room.sh"
all=(apply delete start load memory)

image=localhost/bench:1

# import brings the image in: nothing but busybox.
import() {
	local config='ENV=PATH=/bin'
	tar -C "$rootfs" -cf "$tmp/image.tar" .
	"${podbox[@]}" image import "$tmp/image.tar" "$image" >/dev/null 2>&1
	[[ -z ${podman[*]:-} ]] || "${podman[@]}" import --quiet --change "$config" "$tmp/image.tar" "$image" >/dev/null
}

# manifest writes the file of a pod of two containers, which run a script, and prints its
# name. MORE goes into each container.
manifest() {
	local name=$1 script=$2 more=${3:-} c
	{
		printf 'apiVersion: v1\nkind: Pod\nmetadata: {name: %s}\nspec:\n  containers:\n' "$name"
		for c in 1 2; do
			printf '  - name: c%s\n    image: %s\n    imagePullPolicy: Never\n    command: [/bin/sh, -c, "%s"]\n' "$c" "$image" "${script//NUMBER/$c}"
			[[ -z $more ]] || printf '%s\n' "${more//NUMBER/$c}"
		done
	} >"$tmp/$name.yaml"
	echo "$tmp/$name.yaml"
}

# running fails unless so many containers run, as COMMAND... lists.
running() {
	local n
	n=$("${@:2}" | wc -l)
	((n == $1)) || fail "$n containers run by $2, of $1"
}

row_apply() {
	echo '## Two containers of a manifest, until both run'
	local round yaml gone pgone='' address=''
	podman=()
	! have podman || furnish_podman
	[[ -z ${podman[*]:-} ]] || "${podman[@]}" pod rm -f "$tag" >/dev/null
	import
	yaml=$(manifest two 'exec sleep 1000')
	gone=$(script gone "${podbox[*]} rm -f -t 0 two >/dev/null 2>&1; true")
	local mine='podbox apply --wait=30s -f pod.yaml, until both run'
	local early='podbox apply -f pod.yaml, until it is under way'
	local same='podbox apply -f pod.yaml, when it is there'
	local bridge='podman kube play pod.yaml, on its bridge'
	local none='podman kube play --network none pod.yaml'
	if [[ -n ${podman[*]:-} ]]; then
		pgone=$(script gone-podman "${podman[*]} pod rm -f -i -t 0 two >/dev/null 2>&1; true")
		# Also because it makes its pause image when it needs it first.
		if "${podman[@]}" kube play "$yaml" >"$tmp/podman/log" 2>&1; then
			address=$("${podman[@]}" inspect --format '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' \
				"$("${podman[@]}" pod inspect --format '{{.InfraContainerID}}' two)")
		fi
		"$pgone"
		[[ -n $address ]] || note 'podman has no network but none here'
		"${podman[@]}" kube play --network none "$yaml" >"$tmp/podman/log" 2>&1 ||
			{ cat "$tmp/podman/log" >&2; fail 'podman cannot play the manifest'; }
		running 3 "${podman[@]}" ps -q # its pause is one
	fi
	"${podbox[@]}" apply --wait=30s -f "$yaml" >/dev/null
	running 2 "${podbox[@]}" ps -q
	"$gone"
	for ((round = 0; round < rounds; round++)); do
		measure "$mine" "$middling" "$gone" "${podbox[@]}" apply --wait=30s -f "$yaml"
		[[ -z $address ]] || measure "$bridge" "$slow" "$pgone" "${podman[@]}" kube play "$yaml"
		[[ -z $pgone ]] || measure "$none" "$slow" "$pgone" "${podman[@]}" kube play --network none "$yaml"
		measure "$early" "$middling" "$gone" "${podbox[@]}" apply -f "$yaml"
		measure "$same" "$middling" '' "${podbox[@]}" apply -f "$yaml"
	done
	labels=("$mine" "${labels[@]:1:${#labels[@]}-3}" "$early" "$same")
	versus 'podman kube play, on its bridge / podbox apply' "$bridge" "$mine" '>=' 15
	versus 'podman kube play, without a network / podbox apply, with one' "$none" "$mine" '>=' 15
	table ms faster slower
	echo "The image is there, and podman's pause image. The pod of podbox has its address, by a routed veth pair; podman's has one only where it says so."
}

row_delete() {
	echo '## The same two containers, until nothing is left'
	local round yaml there pthere=''
	podman=()
	! have podman || furnish_podman
	[[ -z ${podman[*]:-} ]] || "${podman[@]}" pod rm -f "$tag" >/dev/null
	import
	# The first process of a container ends by a signal only if it says so.
	yaml=$(manifest two "trap 'exit 0' TERM; sleep 1000 & wait")
	there=$(script there "exec ${podbox[*]} apply --wait=30s -f $yaml >/dev/null")
	local mine='podbox delete -f pod.yaml'
	local theirs='podman kube down pod.yaml (no network)'
	[[ -z ${podman[*]:-} ]] || pthere=$(script there-podman "exec ${podman[*]} kube play --network none $yaml >/dev/null")
	for ((round = 0; round < rounds; round++)); do
		measure "$mine" "$middling" "$there" "${podbox[@]}" delete -f "$yaml"
		[[ -z $pthere ]] || measure "$theirs" "$slow" "$pthere" "${podman[@]}" kube down "$yaml"
	done
	table ms faster slower
	echo 'They end by themselves when they are asked to.'
}

row_start() {
	echo '## A container from start to exit'
	local round
	import
	"${podbox[@]}" create web >/dev/null
	local plain='podbox run --rm --rootfs R POD -- /bin/true'
	local mine='podbox run --rm --image I POD -- /bin/true'
	for ((round = 0; round < rounds; round++)); do
		measure "$plain" "$fast" '' "${podbox[@]}" run --rm --rootfs "$rootfs" web -- /bin/true
		measure "$mine" "$fast" '' "${podbox[@]}" run --rm --image "$image" web -- /bin/true
	done
	versus 'podbox run --image / podbox run --rootfs' "$mine" "$plain" '<=' 1.3
	table ms faster slower
	echo 'The same files, which are a container'"'"'s root themselves, or the one layer of an image.'
}

# figure prints column N of the row of the table on its input that begins with TEXT.
figure() {
	awk -F' *[|] *' -v row="$1" -v n="$2" '$2 == row { print $n; found = 1 } END { exit !found }'
}

row_load() {
	local result ours row
	result=$(ROWS=load RUNS=$((runs >= 20 ? 5 : 1)) "$hack/bench-images.sh")
	sed -n '/^## /,$p' <<<"$result"
	for row in 'docker save' 'OCI, gzip'; do
		ours=$(figure "podbox image load, $row" 4 <<<"$result")
		goal "load, podbox / podman, $row" "$(ratio "$ours" "$(figure "podman load, $row" 4 <<<"$result")")" '<=' 1
		goal "load, podbox, $row, MB of memory at most" "$(figure "podbox image load, $row" 7 <<<"$result")" '<=' 64
	done
	goal 'load, podbox / umoci unpack, OCI, gzip' "$(ratio "$ours" "$(figure 'umoci unpack, OCI, gzip' 4 <<<"$result")")" '<=' 1
}

# cpu prints the seconds of CPU that a process has used, with its children that have ended.
cpu() { awk '{ sub(/.*\) /, ""); print ($12 + $13 + $14 + $15) / 100 }' "/proc/$1/stat"; }

row_memory() {
	echo '## Memory of a supervisor that makes probes'
	note 'memory'
	local round yaml pid before kind seconds=60
	((rounds > 1)) || seconds=5
	import
	yaml=$(manifest probed 'echo hello >/tmp/index.html; exec busybox httpd -f -p 808NUMBER -h /tmp' "\
    startupProbe: {tcpSocket: {port: 808NUMBER}, periodSeconds: 1}
    readinessProbe: {httpGet: {port: 808NUMBER, path: /}, periodSeconds: 1}
    livenessProbe: {exec: {command: [/bin/true]}, periodSeconds: 1}")
	for ((round = 0; round < (rounds + 1) / 2; round++)); do
		"${podbox[@]}" apply --wait=30s -f "$yaml" >/dev/null
		pid=$(supervisor)
		before=$(cpu "$pid")
		sleep "$seconds"
		sample 'podbox, CPU' < <(awk -v a="$before" -v b="$(cpu "$pid")" -v s="$seconds" 'BEGIN { print (b - a) * 100 / s }')
		memory podbox "$pid"
		remove probed
	done
	goal 'supervisor of two containers with three probes each, kB private' "$(short "$(median 'podbox, Private')")" '<=' 5120
	goal 'the same without the clean pages of its program' "$(short "$(median 'podbox, Private_Dirty')")" '<=' 5120
	echo
	echo "A run is one pod, $seconds s after it was ready. Each container has a liveness probe by exec and a readiness probe by HTTP,"
	echo "both each second. CPU, with that of the programs which were probes: $(short "$(median 'podbox, CPU')") % of one."
	labels=()
	for kind in Private_Dirty Private_Clean Private Pss; do labels+=("podbox, $kind"); done
	table kB smaller larger
}

leave() {
	leave_pods
	"${podbox[@]}" image rm -f "$image" >/dev/null 2>&1
}

begin "$@"
report 'Pod YAML and images beside their peers' podman runc conmon umoci
