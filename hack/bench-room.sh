# What bench-containers.sh and bench-kube.sh have in common: the room that they measure in,
# the measuring, and the report. Such a script sets hack, which is this directory, reads
# this file, defines its rows as functions row_NAME, their names in order as all, and
# leave, and then calls begin and report. Bash.
# shellcheck shell=bash disable=SC2154 # hack and all are the script's

binary=${PODBOX:-$(dirname "$hack")/bin/podbox}

fail() {
	echo "$(basename "$0" .sh): $*" >&2
	exit 1
}
note() { echo "$(basename "$0" .sh): $*" >&2; }
have() { command -v "$1" >/dev/null; }

# --- the room -----------------------------------------------------------------

# What the namespaces do not take with them when the last process in them has gone:
# cgroups, and the directory where the tmpfs was.
cleanup() {
	local status=$? try left
	trap - EXIT
	trap '' HUP INT PIPE TERM
	set +e
	[[ -z $room ]] || { kill -KILL "$room" && wait "$room"; } 2>/dev/null
	for ((try = 0; try < 50; try++)); do # a cgroup is busy until the last process in it is gone
		left=$(find /sys/fs/cgroup -depth -type d \( -path "*/$tag" -o -path "*/$tag/*" -o -path "*/$installation" -o -path "*/$installation/*" \) \
			! -exec rmdir {} \; -print 2>/dev/null)
		[[ -z $left ]] && break
		sleep 0.1
	done
	rmdir "$tmp"
	exit "$status"
}

# enter runs this script again, in a room, and ends as that does.
enter() {
	tmp=$(mktemp -d "${TMPDIR:-/tmp}/benchc.XXXXXX")
	tag=benchc$$
	installation=podbox-$(printf %s "$tmp/run" | sha256sum | head -c 8) # as podbox names its cgroups
	room=''
	trap cleanup EXIT
	trap 'exit 129' HUP
	trap 'exit 130' INT
	trap 'exit 141' PIPE # it was piped into head, or into a pager that was left
	trap 'exit 143' TERM
	local host status=0
	exec {host}</proc/self/ns/net
	BENCH_ROOM=$tmp BENCH_TAG=$tag BENCH_HOST=$host \
		unshare --net --mount --pid --fork --kill-child --mount-proc --propagation private -- "$0" &
	room=$!
	wait "$room" || status=$?
	room=''
	exit "$status"
}

# begin reads the command line and goes on in a room, where it furnishes what all rows need.
begin() {
	local out=''
	while (($# > 0)); do
		case $1 in
		--out)
			(($# > 1)) || fail '--out needs a value'
			out=$2
			shift
			;;
		-h | --help)
			while read -r line && [[ $line == '#'* ]]; do echo "${line#\#}"; done < <(tail -n +2 "$0")
			exit 0
			;;
		*) fail "unknown option $1 (see --help)" ;;
		esac
		shift
	done

	if [[ -z ${BENCH_ROOM:-} ]]; then
		((EUID == 0)) || fail 'needs root'
		have hyperfine || fail 'hyperfine is not installed (Debian: apt-get install hyperfine)'
		have busybox || fail 'busybox is not installed (Debian: apt-get install busybox-static)'
		[[ -x $binary ]] || fail "$binary is not there (make build)"
		[[ -z $out ]] || exec > >(tee "$out")
		enter
	fi

	tmp=$BENCH_ROOM tag=$BENCH_TAG
	rootfs=$tmp/rootfs
	podbox=("$binary" --root "$tmp/run" --state-dir "$tmp/state")
	runs=${RUNS:-200}
	rounds=5
	((runs >= 20)) || rounds=1
	fast=$(share 1) middling=$(share 4) slow=$(share 10) # runs of each round
	furnish
}

# share prints how many of RUNS a round has, of a command that has one in N of them.
share() {
	local n=$((runs / rounds / $1))
	echo $((n > 2 ? n : 2))
}

furnish() {
	mount -t tmpfs -o mode=755 tmpfs "$tmp"
	ip link set lo up
	: >"$tmp/host" # the network namespace that the script was started in
	mount --bind "/proc/self/fd/$BENCH_HOST" "$tmp/host"
	exec {BENCH_HOST}<&-
	mkdir -p "$rootfs"/{bin,dev,etc,proc,sys,tmp} "$tmp"/{run,state,logs,samples,scripts}
	chmod 700 "$tmp/run"
	cp "$(command -v busybox)" "$rootfs/bin/busybox"
	local applet
	for applet in dd sh sleep true; do ln -s busybox "$rootfs/bin/$applet"; done
	"$rootfs/bin/true" || fail 'busybox does not run by itself'
	: >"$tmp/goals"
	sync "$binary" # pages of a new file that are not yet on the disk would count as private
}

# furnish_podman makes a configuration with which podman runs here, and a pod. Its
# pods have no network but localhost, which a container costs nothing.
furnish_podman() {
	if [[ ! -d $tmp/podman ]]; then
		note 'furnishing podman'
		local dir runtime name eff
		mkdir -p "$tmp/podman"
		mount -t tmpfs run /run
		mount -t tmpfs shm /dev/shm
		mkdir /run/lock
		for dir in /var/lib/cni /var/lib/containers /etc/cni; do
			[[ ! -d $dir ]] || mount -t tmpfs podman "$dir"
		done
		runtime=$(command -v runc || command -v crun) || fail 'podman has neither runc nor crun'
		while read -r name eff; do [[ $name != CapEff: ]] || break; done </proc/self/status
		if ! ((16#$eff >> 24 & 1)); then # CAP_SYS_RESOURCE
			build runcshim -ldflags "-X main.runc=$runtime"
			runtime=$tmp/runcshim
		fi
		cat >"$tmp/podman/containers.conf" <<-CONF
			[engine]
			cgroup_manager = "cgroupfs"
			events_logger = "none"
			runtime = "bench"
			[engine.runtimes]
			bench = ["$runtime"]
		CONF
	fi
	export CONTAINERS_CONF=$tmp/podman/containers.conf
	podman=(podman --root "$tmp/podman/root" --runroot "$tmp/podman/run")
	podman_create=("${podman[@]}" pod create --cgroup-parent "/$tag" --network none)
	if ! { "${podman_create[@]}" "$tag" && "${podman[@]}" pod start "$tag"; } >"$tmp/podman/log" 2>&1; then
		cat "$tmp/podman/log" >&2
		fail 'podman cannot make a pod here'
	fi
}

# build builds a program of this directory.
build() {
	[[ ! -x $tmp/$1 ]] || return 0
	(cd "$hack" && CGO_ENABLED=0 go build "${@:2}" -o "$tmp/$1" "./$1")
}

# --- measuring ----------------------------------------------------------------

# script makes an executable file of shell commands and prints its name: what
# hyperfine runs without a shell of its own has to be one program.
script() {
	printf '#!/bin/sh\n%s\n' "$2" >"$tmp/scripts/$1"
	chmod +x "$tmp/scripts/$1"
	echo "$tmp/scripts/$1"
}

labels=() # of the table that is being measured, in order
declare -A file=()

# sample adds figures, one a line on its input, to those of LABEL. A label begins with
# "podbox" or with the name of a peer, which is compared with the podbox before it.
sample() {
	if [[ -z ${file[$1]:-} ]]; then
		labels+=("$1")
		file[$1]=$(mktemp "$tmp/samples/XXXXXX")
	fi
	cat >>"${file[$1]}"
}

# measure LABEL RUNS PREPARE COMMAND... times a command, in ms. PREPARE is a program
# that goes before each run, or nothing.
measure() {
	local label=$1 runs=$2 prepare=$3 options
	shift 3
	[[ -n ${file[$label]:-} ]] || note "$label"
	options=(-N --style none --warmup 1 --runs "$runs" --export-json "$tmp/result")
	[[ -z $prepare ]] || options+=(--prepare "$prepare")
	timeout 120 hyperfine "${options[@]}" "$*" >"$tmp/hyperfine.log" 2>&1 ||
		{ cat "$tmp/hyperfine.log" >&2; fail "$label could not be measured"; }
	sample "$label" < <(awk '/"times"/ { on = 1; next } /]/ { on = 0 } on { print $1 * 1000 }' "$tmp/result")
}

# took LABEL COMMAND... runs a command once and adds the ms that it took.
took() {
	local label=$1 t0=$EPOCHREALTIME
	shift
	"$@" || fail "$label could not be measured"
	sample "$label" < <(awk -v a="$t0" -v b="$EPOCHREALTIME" 'BEGIN { print (b - a) * 1000 }')
}

# statistics prints number, median, quartiles, least and most of the figures of LABEL.
statistics() {
	sort -g "${file[$1]}" | awk '
		{ v[NR] = $1 }
		function at(q, i) { i = 1 + (NR - 1) * q; return v[int(i)] + (v[int(i) + (int(i) < NR)] - v[int(i)]) * (i - int(i)) }
		END { print NR, at(0.5), at(0.25), at(0.75), v[1], v[NR] }'
}

median() { statistics "$1" | cut -d' ' -f2; }
ratio() { awk -v a="$1" -v b="$2" 'BEGIN { printf a / b < 10 ? "%.2f" : "%.1f", a / b }'; }
short() { awk -v n="$1" 'BEGIN { printf n < 100 ? "%.2f" : "%.0f", n }'; }

# table prints what has been measured, and begins anew. UNIT is its unit, LESS and MORE
# the words for a podbox whose figure is less than a peer's, or more.
table() {
	local unit=$1 less=$2 more=$3 label n mid low high min max base='' times
	echo
	echo "| | runs | median, $unit | middle half | min | max | podbox is |"
	echo '| --- | ---: | ---: | ---: | ---: | ---: | ---: |'
	for label in "${labels[@]}"; do
		read -r n mid low high min max < <(statistics "$label")
		times=''
		if [[ $label == podbox* ]]; then
			base=$mid
		elif [[ -n $base ]]; then
			times="$(ratio "$mid" "$base") × $less"
			[[ $times != 0.* ]] || times="$(ratio "$base" "$mid") × $more"
		fi
		echo "| $label | $n | $(short "$mid") | $(short "$low") to $(short "$high") | $(short "$min") | $(short "$max") | $times |"
	done
	echo
	labels=() file=()
}

# goal TEXT MEASURED OPERATOR BOUND notes whether a goal is met.
goal() {
	local verdict='**not met**'
	if awk -v a="$2" -v b="$4" "BEGIN { exit !(a $3 b) }"; then verdict=met; fi
	echo "| $1 | $3 $4 | $2 | $verdict |" >>"$tmp/goals"
}

# versus TEXT LABEL OTHER OPERATOR BOUND is a goal for the ratio of two medians, if both
# were measured.
versus() {
	[[ -z ${file[$2]:-} || -z ${file[$3]:-} ]] || goal "$1" "$(ratio "$(median "$2")" "$(median "$3")")" "$4" "$5"
}

# remove ends pods of podbox with all that runs in them.
remove() { "${podbox[@]}" rm -f -t 0 "$@" >/dev/null; }

# supervisor prints the process ID of the one supervisor there is.
supervisor() {
	local dir argv=()
	for dir in /proc/[0-9]*; do
		mapfile -d '' argv 2>/dev/null <"$dir/cmdline" || continue
		if [[ ${argv[1]:-} == supervise && ${argv[2]:-} == "$tmp/run" ]]; then
			echo "${dir#/proc/}"
			return
		fi
	done
	fail 'no supervisor'
}

# memory LABEL PID... adds up what processes hold, as kB for each kind.
memory() {
	local label=$1 pid sum kind
	shift
	sum=$(for pid; do cat "/proc/$pid/smaps_rollup"; done)
	for kind in Private_Dirty Private_Clean Private Pss; do
		sample "$label, $kind" < <(awk -v k="^$kind" '$1 ~ k && $1 !~ /^(Pss_|Private_Hugetlb)/ { s += $2 } END { print s }' <<<"$sum")
	done
}

# --- report -------------------------------------------------------------------

version() { ! have "$1" || "$@" 2>/dev/null | head -n 1; }

# heading prints what has been measured and where: the TITLE, and versions of PROGRAM...
heading() {
	echo "# $1"
	echo
	echo "- $(date -u '+%Y-%m-%d %H:%M UTC'), Linux $(uname -r) $(uname -m), $(nproc) CPUs ($(awk -F': ' '/^model name/ { print $2; exit }' /proc/cpuinfo)), load $(cut -d' ' -f1-3 /proc/loadavg)"
	local program line
	"$binary" version | sed -n '1s/^/- /p'
	for program in "${@:2}" hyperfine; do
		line=$(version "$program" --version)
		[[ -z $line ]] || echo "- $line"
	done
	echo "- \`RUNS=$runs${ROWS:+ ROWS="$ROWS"} hack/$(basename "$0")\`: $rounds rounds of $fast, $middling or $slow runs; whole commands, timed by hyperfine without a shell"
}

# leave_pods removes all pods, also of a row that has failed.
leave_pods() {
	"${podbox[@]}" rm -f -t 0 -a >/dev/null 2>&1
	[[ ! -d $tmp/podman ]] || CONTAINERS_CONF=$tmp/podman/containers.conf \
		podman --root "$tmp/podman/root" --runroot "$tmp/podman/run" pod rm -f -t 0 -a >/dev/null 2>&1
}

# report runs the rows that ROWS chooses, and prints all under the heading of its arguments.
report() {
	local row status failed=0
	heading "$@"
	for row in "${all[@]}"; do
		[[ $row =~ ^(${ROWS:-.*})$ ]] || continue
		echo
		set +e
		(
			set -e
			"row_$row"
		)
		status=$?
		leave
		set -e
		((status == 0)) || { failed=1 && echo && echo "**Row $row failed.**"; }
	done
	if [[ -s $tmp/goals ]]; then
		echo
		echo '## The goals'
		echo
		echo '| what | goal | measured | |'
		echo '| --- | --- | ---: | --- |'
		cat "$tmp/goals"
	fi
	return "$failed"
}
