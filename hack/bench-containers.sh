#!/usr/bin/env bash
#
# Measures podbox's containers beside their peers on this machine, all in one run,
# and prints a report in Markdown.
#
# usage: [ROWS=REGEX] [RUNS=N] hack/bench-containers.sh [--out FILE]
#
#   true    podbox run --rm    against bwrap, runc run and podman run
#   launch  the launch itself, in the library, against fork and exec
#   detach  podbox run -d      against podman run -d: the first of a pod, and others
#   memory  the supervisor of two containers, against their two conmons
#   log     200 MB of output, in three forms and rotated, against conmon
#   tcp     localhost between two containers, against two processes of the host
#   ops     exec, stop, rm, ps
#   many    64 containers at once, in one pod and in 64
#
# ROWS chooses among these (all). RUNS is the number of runs of a fast command (200);
# slower ones have a quarter or a tenth. Below 20 is for a look whether it works: all
# is done once, and figures mean little. The sides take turns, in five rounds.
#
# It needs root, hyperfine, busybox and bin/podbox (make build), Go for the rows launch
# and log, and those peers that are to be compared. All runs in network, mount and
# PID namespaces of its own and with records, logs and roots on a tmpfs of its own, so
# nothing of it touches the host's pods, links or storage, and nothing is left of it.

set -euo pipefail

hack=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=hack/bench-room.sh
source "$hack/bench-room.sh"
all=(true launch detach memory log tcp ops many)

# bundle makes an OCI bundle that joins the pod of a process, and runs ARGS.
bundle() {
	local dir=$1 pid=$2 args=$3
	mkdir -p "$dir"
	runc spec --bundle "$dir"
	sed -i -e 's|"terminal": true|"terminal": false|' -e "s|^\(\t*\)\"sh\"|\1$args|" -e '/"hostname"/d' \
		-e "s|\"path\": \"rootfs\"|\"path\": \"$rootfs\"|" \
		-e "s|\"linux\": {|&\"cgroupsPath\": \"/$tag/runc\",|" \
		-e "s|\"type\": \"network\"|&, \"path\": \"/proc/$pid/ns/net\"|" \
		-e "s|\"type\": \"ipc\"|&, \"path\": \"/proc/$pid/ns/ipc\"|" \
		-e "s|\"type\": \"uts\"|&, \"path\": \"/proc/$pid/ns/uts\"|" "$dir/config.json"
}

# --- rows ---------------------------------------------------------------------

row_true() {
	echo '## A container from start to exit'
	local round pid bwrap=() runc=() peer=''
	"${podbox[@]}" create web >/dev/null
	pid=$("${podbox[@]}" inspect web --format '{{.PausePID}}')
	local mine='podbox run --rm --rootfs R POD -- /bin/true'
	local few='bwrap --bind R / --proc /proc --dev /dev --unshare-pid --unshare-cgroup-try /bin/true'
	local more=${few/ --unshare-pid/ --unshare-ipc --unshare-uts --unshare-pid}
	local joins="nsenter -t PAUSE -n -i -u $few"
	local other='runc run --bundle B C (joins the pod)'
	local third='podman run --rm --pod POD --rootfs R /bin/true'
	bwrap=(bwrap --bind "$rootfs" / --proc /proc --dev /dev --unshare-pid --unshare-cgroup-try /bin/true)
	if have runc; then
		bundle "$tmp/bundle" "$pid" '"/bin/true"'
		runc=(runc --root "$tmp/runc" run --bundle "$tmp/bundle" "$tag")
	fi
	if have podman; then
		furnish_podman
		peer=yes
	fi
	for ((round = 0; round < rounds; round++)); do
		measure "$mine" "$fast" '' "${podbox[@]}" run --rm --rootfs "$rootfs" web -- /bin/true
		if have bwrap; then
			measure "$few" "$fast" '' "${bwrap[@]}"
			measure "$more" "$fast" '' bwrap --unshare-ipc --unshare-uts "${bwrap[@]:1}"
			measure "$joins" "$fast" '' nsenter -t "$pid" -n -i -u "${bwrap[@]}"
		fi
		((${#runc[@]} == 0)) || measure "$other" "$middling" '' "${runc[@]}"
		[[ -z $peer ]] || measure "$third" "$slow" '' "${podman[@]}" run --rm --pod "$tag" --rootfs "$rootfs" /bin/true
	done
	versus 'podbox run / bwrap, which leaves network, IPC and UTS alone' "$mine" "$few" '<=' 1.5
	versus 'podbox run / bwrap with new IPC and UTS namespaces' "$mine" "$more" '<=' 1.5
	versus 'podbox run / bwrap, joined to the pod by nsenter' "$mine" "$joins" '<=' 1.5
	versus 'runc run / podbox run' "$other" "$mine" '>=' 4
	versus 'podman run / podbox run' "$third" "$mine" '>=' 30
	table ms faster slower
	echo 'The container of podbox has the default isolation, with a filter of system calls, which bwrap and runc have not.'
}

row_launch() {
	echo '## The launch itself, in the library'
	note 'the launch'
	local round name per ms
	have go || { note 'no Go, no row launch'; return 0; }
	(cd "$hack/.." && CGO_ENABLED=0 go test -c -o "$tmp/launcher.test" ./launcher)
	for ((round = 0; round < rounds; round++)); do
		(cd "$hack/../launcher" && TMPDIR=$tmp PODBOX_PRIVILEGED=1 timeout 120 "$tmp/launcher.test" -test.run '^$' \
			-test.bench '^Benchmark(Container|ForkExecBusybox)$' -test.benchtime "${runs}x") >"$tmp/result" ||
			{ cat "$tmp/result" >&2; fail 'the launch could not be measured'; }
		while read -r name _ per _; do
			ms=$(awk -v n="$per" 'BEGIN { print n / 1e6 }')
			case $name in
			BenchmarkContainer*) sample 'podbox, BenchmarkContainer' <<<"$ms" ;;
			BenchmarkForkExecBusybox*) sample 'os/exec, BenchmarkForkExecBusybox' <<<"$ms" ;;
			esac
		done <"$tmp/result"
	done
	versus 'the launch / fork and exec' 'podbox, BenchmarkContainer' 'os/exec, BenchmarkForkExecBusybox' '<=' 4
	table ms faster slower
	echo "A run is the mean of $runs."
}

row_detach() {
	echo '## A container in the background, until it runs'
	local round peer='' id alone again pagain=''
	local run=("${podbox[@]}" run -d --rootfs "$rootfs")
	local first='podbox run -d --rootfs R POD -- /bin/sleep 1000 (the first of the pod)'
	local further='podbox run -d --rootfs R POD -- /bin/sleep 1000 (a further one)'
	local third='podman run -d --pod POD --rootfs R /bin/sleep 1000'
	id=$("${podbox[@]}" create web)
	alone=$(script alone "${podbox[*]} rm -f -t 0 -c again web >/dev/null 2>&1
		while pgrep -f 'supervise $tmp/run .*$id' >/dev/null; do sleep 0.01; done")
	again=$(script again "${podbox[*]} rm -f -t 0 -c again more >/dev/null 2>&1; true")
	"${podbox[@]}" create more >/dev/null
	"${run[@]}" --name one more -- /bin/sleep 1000 >/dev/null
	if have podman; then
		furnish_podman
		peer=yes
		pagain=$(script again-podman "${podman[*]} rm -f -t 0 again >/dev/null 2>&1; true")
	fi
	for ((round = 0; round < rounds; round++)); do
		measure "$first" "$middling" "$alone" "${run[@]}" --name again web -- /bin/sleep 1000
		measure "$further" "$fast" "$again" "${run[@]}" --name again more -- /bin/sleep 1000
		[[ -z $peer ]] || measure "$third" "$slow" "$pagain" \
			"${podman[@]}" run -d --name again --pod "$tag" --rootfs "$rootfs" /bin/sleep 1000
	done
	versus 'podman run -d / podbox run -d, the first' "$third" "$first" '>=' 15
	versus 'podman run -d / podbox run -d, a further one' "$third" "$further" '>=' 15
	table ms faster slower
	echo 'The first starts the supervisor.'
}

row_memory() {
	echo '## Memory of what keeps two containers'
	note 'memory'
	local round n kind peer=''
	local conmons=() ordered=()
	if have podman; then
		furnish_podman
		peer=yes
	fi
	for ((round = 0; round < (rounds + 1) / 2; round++)); do
		"${podbox[@]}" create web >/dev/null
		for n in 1 2; do "${podbox[@]}" run -d --rootfs "$rootfs" web -- sleep 1000 >/dev/null; done
		sleep 3 # until it is at rest, and has given back what starting took
		memory podbox "$(supervisor)"
		remove web
		if [[ -n $peer ]]; then
			for n in 1 2; do "${podman[@]}" run -d --name "c$n" --pod "$tag" --rootfs "$rootfs" sleep 1000 >/dev/null; done
			sleep 1
			mapfile -t conmons < <("${podman[@]}" inspect --format '{{.State.ConmonPid}}' c1 c2)
			memory 'two conmons' "${conmons[@]}"
			"${podman[@]}" rm -f -t 0 c1 c2 >/dev/null
		fi
	done
	goal 'supervisor of two containers, kB private' "$(short "$(median 'podbox, Private')")" '<=' 3072
	goal 'the same without the clean pages of its program' "$(short "$(median 'podbox, Private_Dirty')")" '<=' 3072
	for kind in Private_Dirty Private_Clean Private Pss; do
		ordered+=("podbox, $kind")
		[[ -z $peer ]] || ordered+=("two conmons, $kind")
	done
	labels=("${ordered[@]}")
	table kB smaller larger
	echo 'By smaps_rollup; Private is both of its kinds. The conmons share their code with that of the infra container.'
}

# clock PODBOX|PODMAN LABEL PAYLOAD BYTES OPTION... adds the MB/s at which a container's
# output reaches its log.
clock() {
	local side=$1 label=$2 payload=$3 bytes=$4 log seconds
	shift 4
	local program=(sh -c "read _ </gate; exec dd if=/$payload bs=64k 2>/dev/null")
	[[ -n ${file[$label]:-} ]] || note "$label"
	if [[ $side == podbox ]]; then
		log=$tmp/state/pods/$pod/logs/writer.log
		"${podbox[@]}" run -d --name writer "$@" --rootfs "$rootfs" web -- "${program[@]}" >/dev/null
	else
		log=$tmp/logs/podman.log
		"${podman[@]}" run -d --name writer --log-driver k8s-file --log-opt "path=$log" "$@" --pod "$tag" \
			--rootfs "$rootfs" "${program[@]}" >/dev/null
	fi
	seconds=$(timeout 90 "$tmp/logclock" "$rootfs/gate" "$log" "$bytes") || fail "$label could not be measured"
	sample "$label" < <(awk -v s="$seconds" 'BEGIN { print 200 / s }')
	if [[ $side == podbox ]]; then
		"${podbox[@]}" rm -f -t 0 -c writer web >/dev/null
	else
		"${podman[@]}" rm -f -t 0 writer >/dev/null
	fi
	rm -f "$log"*
}

# payload prints 200 MB of lines of so many bytes with their newlines, which end in
# "!\n".
payload() {
	awk -v n="$1" 'BEGIN { while (length(s) < n - 1) s = s "x"; for (i = 0; i < 200e6 / n - 1; i++) print s; print substr(s, 2) "!" }'
}

row_log() {
	echo '## Output into the log'
	local round peer='' pod form what bytes forms
	have go || { note 'no Go, no row log'; return 0; }
	build logclock
	mkfifo "$rootfs/gate"
	payload 100 >"$rootfs/lines100"
	payload 4000 >"$rootfs/lines4000"
	{ head -c 199999998 /dev/zero | tr '\0' x && echo '!'; } >"$rootfs/unbroken"
	pod=$("${podbox[@]}" create web)
	if have podman; then
		furnish_podman
		peer=yes
	fi
	forms=('lines100:lines of 100 bytes' 'lines4000:lines of 4 kB' 'unbroken:no newline')
	for ((round = 0; round < (rounds + 1) / 2; round++)); do
		for form in "${forms[@]}"; do
			what=${form#*:} form=${form%%:*} bytes=200000000
			clock podbox "podbox run -d --log-size 1g, $what" "$form" "$bytes" --log-size 1g
			[[ -z $peer ]] || clock podman "conmon, $what" "$form" "$bytes"
		done
		clock podbox 'podbox run -d, lines of 100 bytes, rotated at 10 MiB' lines100 0
		[[ -z $peer ]] || clock podman 'conmon, lines of 100 bytes, begun anew at 10 MiB' lines100 0 --log-opt max-size=10m
	done
	for form in "${forms[@]}"; do
		what=${form#*:}
		versus "log, podbox / conmon, $what" "podbox run -d --log-size 1g, $what" "conmon, $what" '>=' 1
	done
	table MB/s slower faster
	echo '200 MB by dd bs=64k, from its first byte until the log, on a tmpfs and in the format of the CRI, has its last; all is there.'
	remove web
	rm -f "$rootfs"/{gate,lines100,lines4000,unbroken}
}

# iperf prints the Gbit/s that a client, run by COMMAND..., has from a server.
iperf() {
	timeout 30 "$@" -c 127.0.0.1 -p 52017 -t 2 -f m >"$tmp/result" 2>&1 ||
		{ cat "$tmp/result" >&2; fail "iperf3 failed as $*"; }
	awk '$NF == "receiver" { for (i = 2; i <= NF; i++) if ($i == "Mbits/sec") { print $(i - 1) / 1000; found = 1 } }
		END { exit !found }' "$tmp/result"
}

row_tcp() {
	echo '## Localhost'
	note 'localhost'
	have iperf3 || { note 'no iperf3, no row tcp'; return 0; }
	local round server rate
	local run=("${podbox[@]}" run --rootfs / --read-only --tmpfs /tmp)
	"${podbox[@]}" create web >/dev/null
	"${run[@]}" -d web -- iperf3 -s -p 52017 -B 127.0.0.1 >/dev/null
	nsenter --net="$tmp/host" iperf3 -s -p 52017 -B 127.0.0.1 >/dev/null 2>&1 &
	server=$!
	sleep 0.5
	for ((round = 0; round < rounds; round++)); do
		rate=$(iperf "${run[@]}" --rm web -- iperf3)
		sample 'podbox, two containers of one pod' <<<"$rate"
		rate=$(iperf nsenter --net="$tmp/host" iperf3)
		sample 'host, two processes' <<<"$rate"
	done
	kill "$server"
	wait "$server" || true
	versus 'localhost, two containers / two processes of the host' 'podbox, two containers of one pod' 'host, two processes' '>=' 0.95
	table Gbit/s slower faster
	echo 'iperf3, one stream of 2 s a run.'
	remove web
}

row_ops() {
	echo '## Other commands'
	local round i peer='' pid
	local run=("${podbox[@]}" run -d --rootfs "$rootfs")
	local start create pstart='' pcreate=''
	start=$(script start "exec ${podbox[*]} start -c c web >/dev/null")
	create=$(script create "${podbox[*]} create gone >/dev/null && ${run[*]} gone -- sleep 1000 >/dev/null && exec ${run[*]} gone -- sleep 1000 >/dev/null")
	"${podbox[@]}" create web >/dev/null
	pid=$("${podbox[@]}" inspect web --format '{{.PausePID}}')
	for i in c e; do "${run[@]}" --name "$i" web -- sleep 1000 >/dev/null; done
	"${podbox[@]}" stop -t 0 -c c web
	if have runc; then
		bundle "$tmp/bundle-sleep" "$pid" '"sleep", "1000"'
		runc --root "$tmp/runc" run --detach --bundle "$tmp/bundle-sleep" "$tag" </dev/null >/dev/null 2>&1
	fi
	if have podman; then
		furnish_podman
		peer=yes
		for i in c e; do
			"${podman[@]}" run -d --name "$i" --pod "$tag" --rootfs "$rootfs" sleep 1000 >/dev/null
		done
		pstart=$(script start-podman "exec ${podman[*]} start c >/dev/null")
		"${podman[@]}" stop -t 0 c >/dev/null
		local prun="${podman[*]} run -d --pod $tag-gone --rootfs $rootfs sleep 1000 >/dev/null"
		pcreate=$(script create-podman "set -e
			${podman_create[*]} $tag-gone >/dev/null
			$prun
			exec $prun")
	fi
	for ((round = 0; round < rounds; round++)); do
		measure 'podbox exec -c C POD -- /bin/true' "$fast" '' "${podbox[@]}" exec -c e web -- /bin/true
		! have runc || measure 'runc exec C /bin/true' "$middling" '' runc --root "$tmp/runc" exec "$tag" /bin/true
		[[ -z $peer ]] || measure 'podman exec C /bin/true' "$slow" '' "${podman[@]}" exec e /bin/true
		measure 'podbox stop -t 0 -c C POD' "$middling" "$start" "${podbox[@]}" stop -t 0 -c c web
		[[ -z $peer ]] || measure 'podman stop -t 0 C' "$slow" "$pstart" "${podman[@]}" stop -t 0 c
		measure 'podbox rm -f -t 0 POD (of two containers)' "$middling" "$create" "${podbox[@]}" rm -f -t 0 gone
		[[ -z $peer ]] || measure 'podman pod rm -f -t 0 POD (of two containers)' 2 "$pcreate" "${podman[@]}" pod rm -f -t 0 "$tag-gone"
	done
	! have runc || runc --root "$tmp/runc" delete -f "$tag"
	remove web
	"${podbox[@]}" create web >/dev/null
	for ((i = 0; i < 100; i++)); do "${run[@]}" web -- sleep 1000 >/dev/null; done
	for ((round = 0; round < rounds; round++)); do
		measure 'podbox ps (of 100 containers that run)' "$middling" '' "${podbox[@]}" ps
	done
	remove web
	table ms faster slower
}

# burst starts 64 containers at once, in the pods named.
burst() {
	local i
	for ((i = 0; i < 64; i++)); do echo "c$i ${*:i % $# + 1:1}"; done |
		xargs -P 64 -L 1 sh -c 'exec "$@" >/dev/null' sh "$tmp/scripts/burst"
}

# settled fails unless all 64 run, and says whether one ran out of memory.
settled() {
	local running oom
	running=$("${podbox[@]}" ps -q | wc -l)
	((running == 64)) || fail "$running containers run, of 64"
	oom=$("${podbox[@]}" ps -a --format '{{.OOM}}' | grep -c true || true)
	killed=$((killed + oom))
}

row_many() {
	echo '## 64 containers at once'
	note '64 containers'
	local round i pods=() killed=0
	script burst "exec ${podbox[*]} run -d --name \"\$1\" --rootfs $rootfs \"\$2\" -- sleep 1000" >/dev/null
	for ((i = 0; i < 64; i++)); do pods+=("pod$i"); done
	for ((round = 0; round < (rounds + 1) / 2; round++)); do
		"${podbox[@]}" create web >/dev/null
		took 'podbox run -d, 64 in one pod' burst web
		settled
		took 'podbox rm -f -t 0 POD, of 64 containers' remove web
		for i in "${pods[@]}"; do "${podbox[@]}" create "$i" >/dev/null; done
		took 'podbox run -d, one in each of 64 pods' burst "${pods[@]}"
		settled
		took 'podbox rm -f -t 0, 64 pods of one container' remove "${pods[@]}"
	done
	goal 'containers ended for want of memory' "$killed" '==' 0
	table ms faster slower
	echo 'Each is started by a command of its own, all at once. A run is the time of all.'
}

# leave removes what a row has left, also one that has failed.
leave() {
	leave_pods
	! have runc || runc --root "$tmp/runc" delete -f "$tag" >/dev/null 2>&1
}

begin "$@"
report 'Containers beside their peers' podman runc conmon bwrap iperf3
