#!/usr/bin/env bash
#
# Measures podbox beside its peers on this machine, whole commands from start to
# exit, all in one run, and prints a report in Markdown.
#
# usage: hack/bench-peers.sh [--out FILE] [--json DIR] [SECTION...]
#
#   create   podbox create     against podman, ip netns and unshare
#   exec     podbox exec       against nsenter, ip netns, bwrap, runc and podman
#   rm       podbox rm         against podman and ip netns
#   density  what 1,000 and 2,000 idle pods cost, and what they slow down
#
# Without a section it measures all four. --out writes the report to a file as
# well; --json keeps hyperfine's own results. RUNS sets the number of runs of a
# fast command (200), SLOW_RUNS that of a slow one (20).
#
# It needs root, Go, hyperfine and bin/podbox (make build); it measures those peers
# that are installed, and without bin/podbox only them. Podman runs in network,
# mount and PID namespaces made for it here, with an image made here from the
# machine's busybox, so nothing of it touches the host's bridges, firewall or
# storage, and nothing is downloaded. Whatever was made is removed at the end.

set -euo pipefail
shopt -s nullglob

hack=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
podbox=${PODBOX:-$(dirname "$hack")/bin/podbox}
fast=${RUNS:-200} slow=${SLOW_RUNS:-20}

fail() {
	echo "bench-peers: $*" >&2
	exit 1
}
note() { echo "bench-peers: $*" >&2; }
have() { command -v "$1" >/dev/null; }

# Records belong on a tmpfs, as /run is where systemd is. Elsewhere the run has one
# of its own, which goes with its mount namespace.
if ((EUID == 0)) && [[ $(stat -f -c %T /run) != tmpfs && -z ${BENCH_TMPFS:-} ]]; then
	note '/run is not a tmpfs here; using one on /run/podbox'
	exec unshare --mount env BENCH_TMPFS=1 bash -c \
		'mkdir -p /run/podbox && mount -t tmpfs -o mode=700 tmpfs /run/podbox && exec "$@"' - "$0" "$@"
fi

out='' json='' sections=()
while (($# > 0)); do
	case $1 in
	--out | --json)
		(($# > 1)) || fail "$1 needs a value"
		if [[ $1 == --out ]]; then out=$2; else json=$2; fi
		shift
		;;
	create | exec | rm | density) sections+=("$1") ;;
	-h | --help)
		while read -r line && [[ $line == '#'* ]]; do echo "${line#\#}"; done < <(tail -n +2 "$0")
		exit 0
		;;
	*) fail "unknown section or option $1 (see --help)" ;;
	esac
	shift
done
((${#sections[@]} > 0)) || sections=(create exec rm density)
((EUID == 0)) || fail 'needs root'
have hyperfine || fail 'hyperfine is not installed (Debian: apt-get install hyperfine)'
[[ -x $podbox ]] || { note "$podbox is not built; measuring the peers only"; podbox=''; }

# --- making and removing ------------------------------------------------------

tag=podbench$$ # in the name of everything that is made
tmp=$(mktemp -d --suffix=".$tag")
jobs=()
density=0 # idle pods there may be: $tag-1 ... $tag-$density

cleanup() {
	local status=$? pid
	trap - EXIT
	trap '' HUP INT PIPE TERM
	set +e
	if [[ -n $podbox ]]; then
		local names=("$tag" "$tag-exec") i
		for ((i = 1; i <= density; i++)); do names+=("$tag-$i"); done
		printf '%s\n' "${names[@]}" | xargs -n 200 "$podbox" rm -f >/dev/null 2>&1
	fi
	! have runc || runc --root "$tmp/runc" delete -f "$tag" >/dev/null 2>&1
	! have ip || ip netns del "$tag" >/dev/null 2>&1
	for pid in "${jobs[@]}"; do
		kill -KILL "$pid" 2>/dev/null
		wait "$pid" 2>/dev/null
	done
	local try left
	for ((try = 0; try < 50; try++)); do # a cgroup is busy until the last process in it is gone
		left=$(find /sys/fs/cgroup -depth -type d -path "*/$tag*" ! -exec rmdir {} \; -print 2>/dev/null)
		[[ -z $left ]] && break
		sleep 0.1
	done
	rm -rf --one-file-system "$tmp"
	exit "$status"
}
trap cleanup EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 141' PIPE # it was piped into head, or into a pager that was left
trap 'exit 143' TERM

# script makes an executable file of shell commands and prints its name: what
# hyperfine runs without a shell of its own has to be one program.
script() {
	printf '#!/bin/sh\n%s\n' "$2" >"$tmp/$1"
	chmod +x "$tmp/$1"
	echo "$tmp/$1"
}

# --- peers --------------------------------------------------------------------

# A root file system with nothing but busybox, for runc and podman.
rootfs() {
	[[ ! -d $tmp/rootfs ]] || return 0
	local busybox
	busybox=$(command -v busybox) || fail 'busybox is not installed (Debian: apt-get install busybox-static)'
	mkdir -p "$tmp/rootfs"/{bin,dev,etc,proc,sys,tmp}
	cp "$busybox" "$tmp/rootfs/bin/busybox"
	ln -s busybox "$tmp/rootfs/bin/true"
	ln -s busybox "$tmp/rootfs/bin/sleep"
	"$tmp/rootfs/bin/true" || fail "$busybox does not run by itself"
}

room='' # the process whose namespaces podman runs in
podman_network=''

# in_room runs a command where podman is.
in_room() { nsenter -t "$room" -n -m -p -- "$@"; }

# furnish_podman makes the room and everything that podman needs in it: storage, an
# image, a network, and where root lacks CAP_SYS_RESOURCE, a runtime that does
# without. It is an error of this script if podman then cannot make a pod.
furnish_podman() {
	[[ -z $room ]] || return 0
	note 'furnishing podman'
	rootfs
	mkdir -p "$tmp/podman/net"
	# shellcheck disable=SC2016 # the inner shell expands it
	unshare --net --mount --pid --fork --kill-child --mount-proc --propagation private -- sh -c '
		set -e
		mount -t tmpfs run /run
		mount -t tmpfs shm /dev/shm
		mkdir /run/lock
		for dir in /var/lib/cni /var/lib/containers /etc/cni; do
			[ ! -d "$dir" ] || mount -t tmpfs cni "$dir"
		done
		: >"$1"
		exec sleep infinity' room "$tmp/podman/ready" </dev/null &
	jobs+=($!)
	until [[ -e $tmp/podman/ready ]]; do
		kill -0 "${jobs[-1]}" || fail 'no namespaces for podman'
		sleep 0.02
	done
	room=$(<"/proc/${jobs[-1]}/task/${jobs[-1]}/children")
	room=${room// /}

	local runtime name eff
	while read -r name eff; do [[ $name != CapEff: ]] || break; done </proc/self/status
	runtime=$(command -v runc || command -v crun) || fail 'podman has neither runc nor crun'
	if ! ((16#$eff >> 24 & 1)); then # CAP_SYS_RESOURCE
		(cd "$hack/.." && CGO_ENABLED=0 go build -ldflags "-X main.runc=$runtime" -o "$tmp/runcshim" ./hack/runcshim)
		runtime=$tmp/runcshim
	fi
	local plugins='' dir backend=cni
	for dir in /usr/lib/cni /opt/cni/bin /usr/libexec/cni; do
		[[ ! -x $dir/bridge ]] || plugins=$dir
	done
	[[ -n $plugins ]] || backend=netavark
	cat >"$tmp/podman/containers.conf" <<-END
		[engine]
		cgroup_manager = "cgroupfs"
		events_logger = "none"
		runtime = "bench"
		[engine.runtimes]
		bench = ["$runtime"]
		[network]
		network_backend = "$backend"
		network_config_dir = "$tmp/podman/net"
		cni_plugin_dirs = ["${plugins:-$tmp}"]
	END
	# The network that podman and Debian come with, but for its addresses.
	cat >"$tmp/podman/net/87-podman.conflist" <<-END
		{"cniVersion": "0.4.0", "name": "podman", "plugins": [
		  {"type": "bridge", "bridge": "cni-podman0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
		   "ipam": {"type": "host-local", "routes": [{"dst": "0.0.0.0/0"}],
		            "ranges": [[{"subnet": "10.201.0.0/16", "gateway": "10.201.0.1"}]]}},
		  {"type": "portmap", "capabilities": {"portMappings": true}},
		  {"type": "firewall"},
		  {"type": "tuning"}]}
	END
	export CONTAINERS_CONF=$tmp/podman/containers.conf
	podman=(podman --root "$tmp/podman/root" --runroot "$tmp/podman/run" --cgroup-manager cgroupfs)
	tar -C "$tmp/rootfs" -c . | in_room "${podman[@]}" import --quiet - "$tag" >/dev/null

	local network
	for network in podman none; do
		pod_create=("${podman[@]}" pod create --cgroup-parent "/$tag" --network "$network")
		if in_room "${pod_create[@]}" "$tag" >"$tmp/podman/log" 2>&1 &&
			in_room "${podman[@]}" pod start "$tag" >>"$tmp/podman/log" 2>&1; then
			in_room "${podman[@]}" pod rm -f "$tag" >/dev/null
			podman_network="$backend bridge"
			[[ $network != none ]] || podman_network='none: no working CNI plugins or netavark'
			return
		fi
		cat "$tmp/podman/log" >&2
		in_room "${podman[@]}" pod rm -f "$tag" >/dev/null 2>&1 || true
	done
	fail 'podman cannot make a pod here'
}

# bundle makes an OCI bundle that joins the namespaces of a process, and runs ARGS.
bundle() {
	local dir=$1 pid=$2 args=$3
	rootfs
	mkdir -p "$dir"
	cat >"$dir/config.json" <<-END
		{"ociVersion": "1.0.2",
		 "process": {"cwd": "/", "args": [$args], "env": ["PATH=/bin"], "noNewPrivileges": true},
		 "root": {"path": "$tmp/rootfs", "readonly": true},
		 "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"},
		            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]}],
		 "linux": {"cgroupsPath": "/$tag/runc",
		           "namespaces": [{"type": "pid"}, {"type": "mount"},
		                          {"type": "network", "path": "/proc/$pid/ns/net"},
		                          {"type": "ipc", "path": "/proc/$pid/ns/ipc"},
		                          {"type": "uts", "path": "/proc/$pid/ns/uts"}]}}
	END
}

# --- measuring ----------------------------------------------------------------

declare -A median # seconds, by section and label

# measure SECTION LABEL RUNS PREPARE COMMAND... times a command and adds it to the
# section's table. PREPARE is a program that goes before each run, or nothing.
# LABEL is the command as a user would type it.
measure() {
	local section=$1 label=$2 runs=$3 prepare=$4
	shift 4
	note "$section: $label"
	local result=$tmp/result.csv where=()
	[[ $label != podman* ]] || where=(nsenter -t "$room" -n -m -p --)
	local options=(-N --style none --warmup 3 --runs "$runs" --export-csv "$result")
	[[ -z $prepare ]] || options+=(--prepare "$prepare")
	if [[ -n $json ]]; then
		mkdir -p "$json"
		options+=(--export-json "$json/$section-${label//[^A-Za-z0-9]/-}.json")
	fi
	"${where[@]}" hyperfine "${options[@]}" --command-name "$section" "$*" >"$tmp/hyperfine.log" 2>&1 ||
		{ cat "$tmp/hyperfine.log" >&2; fail "$label could not be measured"; }
	local mid min max
	IFS=, read -r _ _ _ mid _ _ min max < <(tail -n 1 "$result")
	median[$section/$label]=$mid
	[[ $label != 'podbox '* || -n ${median[$section]:-} ]] || median[$section]=$mid
	rows+=("$label|$runs|$mid|$min|$max")
}

ms() { awk -v s="$1" 'BEGIN { printf "%.1f", s * 1000 }'; }
ratio() { awk -v a="$1" -v b="$2" 'BEGIN { printf a / b < 10 ? "%.2f" : "%.1f", a / b }'; }

# table prints the rows of a section; each peer's median also in terms of podbox's.
table() {
	local row label runs mid min max times
	echo
	echo '| command | runs | median | min | max | podbox is |'
	echo '| --- | ---: | ---: | ---: | ---: | ---: |'
	for row in "${rows[@]}"; do
		IFS='|' read -r label runs mid min max <<<"$row"
		times=''
		if [[ -n ${median[$1]:-} && $label != podbox* ]]; then
			times="$(ratio "$mid" "${median[$1]}") × faster"
			[[ $times != 0.* ]] || times="$(ratio "${median[$1]}" "$mid") × slower"
		fi
		echo "| \`$label\` | $runs | $(ms "$mid") ms | $(ms "$min") ms | $(ms "$max") ms | $times |"
	done
	echo
}

# goal TEXT MEASURED OPERATOR BOUND says whether a goal is met.
goal() {
	local verdict='**not met**'
	if awk -v a="$2" -v b="$4" "BEGIN { exit !(a $3 b) }"; then verdict=met; fi
	echo "- $1: $2 (goal $3 $4), $verdict"
}

section_create() {
	rows=()
	local prepare
	echo '## Create a pod'
	if [[ -n $podbox ]]; then
		prepare=$(script rm-pod "$podbox rm -f $tag >/dev/null 2>&1 || true")
		measure create 'podbox create POD' "$fast" "$prepare" "$podbox" create "$tag"
		measure create 'podbox create --network none POD' "$fast" "$prepare" "$podbox" create --network none "$tag"
		"$prepare"
	fi
	measure create 'unshare -n -i -u true' "$fast" '' unshare -n -i -u true
	if have ip; then
		# The end of a namespace is the kernel's own time; the link goes at once.
		prepare=$(script rm-netns "ip link del $tag 2>/dev/null; ip netns del $tag 2>/dev/null || true")
		measure create 'ip netns add, veth pair, addresses, routes (10 × ip)' "$((fast / 4))" "$prepare" "$(script add-netns "set -e
			ip netns add $tag
			ip link add $tag type veth peer name eth0 netns $tag
			ip link set $tag up
			ip -n $tag link set lo up
			ip -n $tag link set eth0 up
			ip -n $tag addr add 10.202.0.2/32 dev eth0
			ip -n $tag -6 addr add fd72::2/128 dev eth0 nodad
			ip -n $tag route add default dev eth0
			ip route add 10.202.0.2/32 dev $tag
			ip -6 route add fd72::2/128 dev $tag")"
		"$prepare"
	fi
	if have podman; then
		furnish_podman
		prepare=$(script rm-podman "${podman[*]} pod rm -f -i $tag >/dev/null 2>&1 || true")
		measure create 'podman pod create POD; podman pod start POD' "$slow" "$prepare" \
			"$(script create-podman "${pod_create[*]} $tag && ${podman[*]} pod start $tag")"
		in_room "$prepare"
	fi
	table create
	if [[ -n $podbox && -n $room ]]; then
		goal 'podman / podbox' "$(ratio "${median[create/podman pod create POD; podman pod start POD]}" "${median[create]}")" '>=' 35
	fi
}

section_exec() {
	rows=()
	local pid
	echo '## Run a program in a pod'
	if [[ -n $podbox ]]; then
		"$podbox" create "$tag-exec" >/dev/null
		pid=$("$podbox" inspect "$tag-exec" --format '{{.PausePID}}')
		measure exec 'podbox exec POD -- true' "$fast" '' "$podbox" exec "$tag-exec" -- true
	else
		unshare -n -i -u sleep infinity </dev/null &
		pid=$!
		jobs+=("$pid")
		until [[ $(<"/proc/$pid/comm") == sleep ]]; do sleep 0.02; done
	fi
	measure exec 'nsenter -t PID -n -i -u true' "$fast" '' nsenter -t "$pid" -n -i -u true
	if have ip; then
		ip netns add "$tag"
		measure exec 'ip netns exec NETNS true' "$fast" '' ip netns exec "$tag" true
		ip netns del "$tag"
	fi
	if have bwrap; then
		measure exec 'bwrap --bind / / --dev /dev --proc /proc --unshare-pid true' "$fast" '' \
			bwrap --bind / / --dev /dev --proc /proc --unshare-pid true
	fi
	if have runc; then
		bundle "$tmp/bundle" "$pid" '"true"'
		bundle "$tmp/bundle-long" "$pid" '"sleep", "1000000"'
		measure exec 'runc run --bundle B C (joins the pod; B runs true)' "$((fast / 4))" '' \
			runc --root "$tmp/runc" run --bundle "$tmp/bundle" "$tag"
		runc --root "$tmp/runc" run --detach --bundle "$tmp/bundle-long" "$tag" </dev/null >/dev/null 2>&1
		measure exec 'runc exec C true' "$((fast / 4))" '' runc --root "$tmp/runc" exec "$tag" true
		runc --root "$tmp/runc" delete -f "$tag"
	fi
	if have podman; then
		furnish_podman
		in_room "${pod_create[@]}" "$tag" >/dev/null
		in_room "${podman[@]}" run -d --pod "$tag" --name "$tag-c" "$tag" /bin/sleep 1000000 >/dev/null
		measure exec 'podman exec C true' "$slow" '' "${podman[@]}" exec "$tag-c" true
		measure exec 'podman run --rm --pod POD IMAGE true' "$slow" '' "${podman[@]}" run --rm --pod "$tag" "$tag" /bin/true
		in_room "${podman[@]}" pod rm -f -t 0 "$tag" >/dev/null
	fi
	table exec
	[[ -n $podbox ]] || return 0
	goal 'podbox / nsenter' "$(ratio "${median[exec]}" "${median[exec/nsenter -t PID -n -i -u true]}")" '<=' 2.5
	[[ -z $room ]] || goal 'podman exec / podbox' "$(ratio "${median[exec/podman exec C true]}" "${median[exec]}")" '>=' 30
	"$podbox" rm -f "$tag-exec" >/dev/null
}

section_rm() {
	rows=()
	echo '## Remove a pod'
	if [[ -n $podbox ]]; then
		measure rm 'podbox rm -f POD' "$fast" "$(script create-pod "exec $podbox create $tag")" "$podbox" rm -f "$tag"
	fi
	if have ip; then
		measure rm 'ip link del VETH; ip netns del NETNS' "$((fast / 4))" "$(script add-veth "set -e
			ip netns add $tag
			ip link add $tag type veth peer name eth0 netns $tag")" "$(script del-veth "ip link del $tag && ip netns del $tag")"
	fi
	if have podman; then
		furnish_podman
		measure rm 'podman pod rm -f POD' "$slow" \
			"$(script create-podman "${pod_create[*]} $tag && ${podman[*]} pod start $tag")" "${podman[@]}" pod rm -f "$tag"
	fi
	table rm
	if [[ -n $podbox && -n $room ]]; then
		goal 'podman / podbox' "$(ratio "${median[rm/podman pod rm -f POD]}" "${median[rm]}")" '>=' 30
	fi
}

# --- density ------------------------------------------------------------------

# available prints MemAvailable in kB once it has settled: what a removed pod held
# comes back in the kernel's own time, and caches say nothing about pods.
available() {
	local now last=0 i
	for ((i = 0; i < 20; i++)); do
		echo 3 >/proc/sys/vm/drop_caches
		sleep 0.5
		now=$(awk '/^MemAvailable/ { print $2 }' /proc/meminfo)
		((now - last > 256 || last - now > 256)) || break
		last=$now
	done
	echo "$now"
}

# meminfo prints FIELD of /proc/meminfo in kB.
meminfo() { awk -v f="$1:" '$1 == f { print $2 }' /proc/meminfo; }

mounts() { wc -l </proc/self/mountinfo; }

# fill makes idle pods until there are N.
fill() {
	while ((density < $1)); do
		density=$((density + 1))
		"$podbox" create "$tag-$density" >/dev/null
	done
}

# creates makes idle pods until there are N, and times each: no pod is removed in
# between, whose end in the kernel would be part of the next one's beginning.
creates() {
	local label=$1 from=$((density + 1)) result=$tmp/result.csv times=()
	density=$2
	note "density: $label"
	hyperfine -N --style none --runs 1 --export-csv "$result" -P n "$from" "$2" "$podbox create $tag-{n}" \
		>"$tmp/hyperfine.log" 2>&1 || { cat "$tmp/hyperfine.log" >&2; fail "$label could not be measured"; }
	mapfile -t times < <(tail -n +2 "$result" | cut -d, -f2 | sort -g)
	median[create/$label]=${times[${#times[@]} / 2]}
	rows+=("$label|${#times[@]}|${median[create/$label]}|${times[0]}|${times[-1]}")
}

section_density() {
	local pause=() pid i field
	echo '## Many idle pods'
	if [[ -z $podbox ]]; then
		echo
		echo 'podbox is not built.'
		return
	fi
	rows=()

	# The first pod makes what all share: the installation's directories, tables, code
	# in the page cache. It is not what the thousandth costs.
	note 'density: warming up'
	for ((i = 0; i < 20; i++)); do
		"$podbox" create "$tag" >/dev/null
		"$podbox" rm -f "$tag" >/dev/null
	done
	local mounts0 mounts1 mem0 mem1 mem2
	local -A kernel=()
	local fields=(Slab Percpu KernelStack PageTables AnonPages Shmem)
	mounts0=$(mounts)
	mem0=$(available)
	for field in "${fields[@]}"; do kernel[$field]=$(meminfo "$field"); done

	fill 10
	creates 'podbox create POD (the 11th to 30th)' 30
	note 'density: 1,000 pods'
	fill 980
	creates 'podbox create POD (the 981st to 1,000th)' 1000
	mem1=$(available)
	for field in "${fields[@]}"; do kernel[$field]=$(($(meminfo "$field") - ${kernel[$field]})); done
	mounts1=$(mounts)
	measure ls 'podbox ls (of 1,000 pods)' 20 '' "$podbox" ls
	measure exec 'podbox exec POD -- true (beside 1,000 pods)' 20 '' "$podbox" exec "$tag-500" -- true

	note 'density: their pauses'
	for ((i = 1; i <= density; i++)); do
		pid=$("$podbox" inspect "$tag-$i" --format '{{.PausePID}}')
		pause+=("/proc/$pid/smaps_rollup")
	done
	local pss private
	read -r pss private < <(awk '/^Pss:/ { p += $2 } /^Private/ { q += $2 } END { print p, q }' "${pause[@]}")

	note 'density: 2,000 pods'
	fill 1980
	creates 'podbox create POD (the 1,981st to 2,000th)' 2000
	"$podbox" exec "$tag-2000" -- true || fail 'pod 2,000 runs nothing'

	note 'density: removing them'
	local t0=$EPOCHREALTIME
	for ((i = 1; i <= density; i++)); do echo "$tag-$i"; done | xargs -n 100 "$podbox" rm -f >/dev/null
	local rm_ms=$(((${EPOCHREALTIME/[.,]/} - ${t0/[.,]/}) / 1000))
	density=0
	mem2=$(available)

	table none
	echo "Removing 2,000 pods, 100 a command: $rm_ms ms."
	echo
	echo '| of 1,000 idle pods, each | kB |'
	echo '| --- | ---: |'
	echo "| everything (MemAvailable) | $(ratio $((mem0 - mem1)) 1000) |"
	echo "| the pause, Pss | $(ratio "$pss" 1000) |"
	echo "| the pause, private | $(ratio "$private" 1000) |"
	for field in "${fields[@]}"; do echo "| $field in /proc/meminfo | $(ratio "${kernel[$field]}" 1000) |"; done
	echo "| not given back after all 2,000 were removed | $(ratio $((mem0 - mem2)) 2000) |"
	echo
	goal 'create at pod 1,000 / at pod 10' "$(ratio "${median[create/podbox create POD (the 981st to 1,000th)]}" \
		"${median[create/podbox create POD (the 11th to 30th)]}")" '<=' 1.5
	goal 'ls of 1,000 pods, ms' "$(ms "${median[ls/podbox ls (of 1,000 pods)]}")" '<' 100
	goal 'an idle pod, MB, kernel included' "$(awk -v k=$((mem0 - mem1)) 'BEGIN { printf "%.3f", k / 1000 / 1024 }')" '<=' 0.45
	goal 'an idle pod, kB of user space' "$(ratio "$pss" 1000)" '<=' 40
	goal 'host mounts more with 1,000 pods' "$((mounts1 - mounts0))" '==' 0
	echo '- 2,000 pods: work'
}

# podman_density is the peer's side: fewer pods, for they take half a second each.
podman_density() {
	local n=20 i mem0 mem1 pss
	furnish_podman
	note "density: $n podman pods"
	mem0=$(available)
	for ((i = 1; i <= n; i++)); do
		in_room "${pod_create[@]}" "$tag-$i" >/dev/null
		in_room "${podman[@]}" pod start "$tag-$i" >/dev/null
	done
	mem1=$(available)
	pss=$(in_room sh -c 'cat /proc/[0-9]*/smaps_rollup 2>/dev/null || true' | awk '/^Pss:/ { p += $2 } END { print p }')
	in_room sh -c "${podman[*]} pod rm -f -a" >/dev/null
	echo
	echo "| of $n idle podman pods, each | kB |"
	echo '| --- | ---: |'
	echo "| everything (MemAvailable) | $(ratio $((mem0 - mem1)) $n) |"
	echo "| conmon and pause, Pss | $(ratio "$pss" $n) |"
}

# --- report -------------------------------------------------------------------

version() { ! have "$1" || "$@" 2>/dev/null | head -n 1; }

heading() {
	echo '# podbox beside its peers'
	echo
	echo "- $(date -u '+%Y-%m-%d %H:%M UTC'), Linux $(uname -r) $(uname -m), $(nproc) CPUs ($(awk -F': ' '/^model name/ { print $2; exit }' /proc/cpuinfo)), $(($(meminfo MemTotal) / 1024)) MB"
	local line
	for line in "$([[ -z $podbox ]] || "$podbox" version | head -n 1)" "$(version podman --version)" "$(version runc --version)" \
		"$(version conmon --version)" "$(version bwrap --version)" "$(version nsenter --version)" "$(version ip -V)" "$(version hyperfine --version)"; do
		[[ -z $line ]] || echo "- $line"
	done
	echo "- command: \`hack/bench-peers.sh ${sections[*]}\`; whole commands, timed by hyperfine without a shell after 3 warm-ups"
}

report() {
	local section
	heading
	for section in "${sections[@]}"; do
		echo
		"section_$section"
	done
	[[ " ${sections[*]} " != *' density '* ]] || ! have podman || podman_density
	if [[ -n $room ]]; then
		echo
		echo "Podman: cgroupfs, no events, network $podman_network, runtime $(if [[ -x $tmp/runcshim ]]; then echo 'runc behind hack/runcshim (root lacks CAP_SYS_RESOURCE here)'; else echo runc; fi)."
	fi
}

[[ -z $out ]] || exec > >(tee "$out")
report
