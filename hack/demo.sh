#!/usr/bin/env bash
#
# Shows what podbox is for, on real programs: separate processes meet in a pod by
# every means that the members of a pod have, the pod survives the death of
# everything in it, pods reach each other, and a removed pod leaves nothing.
#
# usage: hack/demo.sh        after building bin/podbox and bin/podtalk (make demo)
#
# It needs root (and asks sudo for it), bash, coreutils and the kernel; no network
# and no image. It makes the pods demo-a and demo-b and removes them, also when it
# is interrupted or a step fails.

set -euo pipefail
shopt -s globstar nullglob dotglob

readonly A=demo-a B=demo-b
readonly key=0x706f64 # of the System V objects: "pod"

hack=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
bin=${PODBOX_BIN:-$(dirname "$hack")/bin}
for program in podbox podtalk; do
	if [[ ! -x $bin/$program ]]; then
		echo "demo: $bin/$program is not built; run: make demo" >&2
		exit 1
	fi
done
if ((EUID != 0)); then
	exec sudo env PODBOX_BIN="$bin" "$BASH" "$hack/demo.sh" "$@"
fi
PATH=$bin:$PATH

bold='' dim='' green='' red='' plain=''
if [[ -t 1 ]]; then
	bold=$'\e[1m' dim=$'\e[2m' green=$'\e[32m' red=$'\e[31m' plain=$'\e[0m'
fi

# --- telling -----------------------------------------------------------------

steps=0
step() {
	steps=$((steps + 1))
	printf '\n%s%d. %s%s\n' "$bold" "$steps" "$1" "$plain"
	shift
	(($# == 0)) || printf '   %s\n' "$@"
	echo
}

# show prints what a command took and its line as one would type it.
show() {
	local ms=$1 line='' word
	shift
	for word; do
		[[ $word == *[\ \{]* ]] && word="'$word'"
		line+=" $word"
	done
	printf '%s%8s%s  %s$%s%s\n' "$dim" "${ms:+$ms ms}" "$plain" "$bold" "$line" "$plain"
}

# indent labels lines: indent WHO TEXT
indent() {
	local line
	[[ -n $2 ]] || return 0
	while IFS= read -r line; do
		printf '          %s%s\n' "${1:+$dim$1 | $plain}" "$line"
	done <<<"$2"
}

die() {
	printf '\n%sdemo: %s%s\n' "$red" "$*" "$plain" >&2
	exit 1
}

# since prints the milliseconds from a value of EPOCHREALTIME until now.
since() {
	local us=$((${EPOCHREALTIME/[.,]/} - ${1/[.,]/}))
	printf '%d.%d' $((us / 1000)) $((us % 1000 / 100))
}

# --- doing -------------------------------------------------------------------

# run shows a command and its output, which it leaves in $out.
run() {
	local t0=$EPOCHREALTIME status=0 ms
	out=$("$@" 2>&1) || status=$?
	ms=$(since "$t0")
	show "$ms" "$@"
	indent '' "$out"
	((status == 0)) || die "$1 $2 exited with status $status"
}

# pair runs both halves of a conversation in pods, as processes that know nothing
# of each other: pair POD 'PODTALK ARGS' POD 'PODTALK ARGS'. The first receives; it
# is started in the background. The second waits until it can be heard. What they
# printed is left in $received and $sent.
pair() {
	local -a first second
	read -ra first <<<"$2"
	read -ra second <<<"$4"
	local t0=$EPOCHREALTIME ms status1=0 status2=0
	podbox exec "$1" -- podtalk "${first[@]}" >"$tmp/received" 2>&1 &
	local job=$!
	sent=$(podbox exec "$3" -- podtalk "${second[@]}" 2>&1) || status2=$?
	wait "$job" || status1=$?
	ms=$(since "$t0")
	received=$(<"$tmp/received")
	show '' podbox exec "$1" -- podtalk "${first[@]}" '&'
	show "$ms" podbox exec "$3" -- podtalk "${second[@]}"
	indent "$(printf '%-*s' ${#second[0]} "${first[0]}")" "$received"
	indent "$(printf '%-*s' ${#first[0]} "${second[0]}")" "$sent"
	((status1 == 0)) || die "${first[0]} exited with status $status1"
	((status2 == 0)) || die "${second[0]} exited with status $status2"
}

field() { podbox inspect "$1" --format "{{.$2}}"; }

# --- looking -----------------------------------------------------------------

# world prints what a pod could leave on the machine, one thing a line, its kind
# first. It leaves out what the kernel changes by itself: counters, ages, and
# neighbours that it learned.
world() {
	local f pid name rest ours init
	# Processes in namespaces other than ours and the machine's, and podbox's own
	# wherever they are. A kernel thread has no program.
	ours=$(stat -L -c %i /proc/self/ns/{net,ipc})
	init=$(stat -L -c %i /proc/1/ns/{net,ipc} 2>/dev/null) || init=$ours
	for f in /proc/[0-9]*/comm; do
		pid=${f//[!0-9]/}
		{ read -r name <"$f"; } 2>/dev/null || continue
		[[ -e /proc/$pid/exe ]] || continue
		rest=$(stat -L -c %i "/proc/$pid/ns/"{net,ipc} 2>/dev/null) || continue
		if [[ $rest != "$ours" && $rest != "$init" || $name == podbox* || $name == podtalk* ]]; then
			echo "process $pid $name"
		fi
	done
	for f in /sys/class/net/*; do
		echo "link ${f##*/}"
	done
	local if dst gw flags metric mask _
	while read -r if dst gw flags _ _ metric mask rest; do
		[[ $if == Iface ]] || echo "route $dst/$mask via $gw dev $if metric $metric"
	done </proc/net/route
	local plen
	if [[ -r /proc/net/ipv6_route ]]; then
		while read -r dst plen _ _ gw metric _ _ flags if; do
			((16#$flags & 0x01000000)) || # a cached path, not a route
				echo "route $dst/$plen via $gw dev $if metric $metric"
		done </proc/net/ipv6_route
	fi
	local addr
	while read -r addr _ flags rest; do
		if [[ $flags == 0x* ]] && ((flags & 4)); then # permanent: somebody set it
			echo "neighbour $addr $rest"
		fi
	done </proc/net/arp
	if command -v ip >/dev/null; then
		ip -6 neighbour show nud permanent | while read -r rest; do echo "neighbour $rest"; done
		ip rule show | while read -r rest; do echo "rule $rest"; done
	fi
	if command -v nft >/dev/null; then
		nft --stateless list ruleset 2>/dev/null | while read -r rest; do
			[[ -n ${rest//\}/} ]] && echo "nftables $rest"
		done
	fi
	local -a m
	while read -ra m; do
		echo "mount ${m[3]} on ${m[4]}"
	done </proc/self/mountinfo
	for f in /sys/fs/cgroup/**/; do
		echo "cgroup ${f%/}"
	done
	for f in /run/podbox/** /var/lib/podbox/** /run/netns/* /dev/shm/* /dev/mqueue/*; do
		case $f in
		# The installation's, not a pod's: its directories, and which address is next.
		/run/podbox/ | /run/podbox/pods | /run/podbox/names | /run/podbox/leases | /run/podbox/leases/next-*) ;;
		*) echo "file $f" ;;
		esac
	done
	for f in msg sem shm; do
		while read -r name pid rest; do
			[[ $name == key ]] || echo "ipc $f $pid"
		done <"/proc/sysvipc/$f"
	done
}

# left waits for the kernel to finish what it does in its own time, such as the
# end of a network namespace, and prints what is in the world and was not before.
left() {
	local deadline=$((SECONDS + 3)) new
	while
		world | sort >"$tmp/after"
		new=$(comm -13 "$tmp/before" "$tmp/after")
		[[ -n $new ]] && ((SECONDS < deadline))
	do
		sleep 0.05
	done
	[[ -z $new ]] || echo "$new"
}

# --- beginning and end -------------------------------------------------------

for pod in "$A" "$B"; do
	if podbox exists "$pod" 2>/dev/null; then
		echo "demo: there is a pod $pod already; remove it first: podbox rm -f $pod" >&2
		exit 1
	fi
done

tmp=$(mktemp -d)
cleanup() {
	local status=$? job
	trap - EXIT
	trap '' HUP INT PIPE TERM
	for pod in "$A" "$B"; do
		! podbox exists "$pod" 2>/dev/null || podbox rm -f "$pod" >/dev/null || status=1
	done
	for job in $(jobs -p); do
		kill "$job" 2>/dev/null || true
	done
	rm -rf "$tmp"
	exit "$status"
}
trap cleanup EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 141' PIPE # it was piped into head, or into a pager that was left
trap 'exit 143' TERM

began=$EPOCHREALTIME
world | sort >"$tmp/before"

# --- the demonstration -------------------------------------------------------

step 'A pod is made' \
	'It is one IP address, one localhost, one hostname and one IPC namespace, held' \
	'by a process that does nothing else. No image, no daemon.'
run podbox create "$A"
run podbox inspect "$A" --format '{{.IP}} {{.IP6}} {{.MAC}}'
ip=$(field "$A" IP) ip6=$(field "$A" IP6)
run podbox ls

step 'Its members meet on localhost' \
	'Each "podbox exec" is a process of its own. The server answers with its process' \
	'ID and what it heard; the client fails unless the answer is right.'
pair "$A" 'tcp-serve 127.0.0.1:8080' "$A" 'tcp-dial 127.0.0.1:8080 tcp-says-hello'
echo
pair "$A" 'udp-serve 127.0.0.1:8080' "$A" 'udp-dial 127.0.0.1:8080 udp-says-hello'
echo
pair "$A" 'unix-serve @demo' "$A" 'unix-dial @demo abstract-socket-says-hello'

step 'They share a POSIX message queue' \
	'The producer sends random messages and then a special one to exit on.'
pair "$A" 'mq-consume /demo' "$A" 'mq-produce /demo 3'
[[ $received == "$sent" ]] || die 'what was consumed is not what was produced'

step 'They share System V messages, semaphores and memory'
pair "$A" "sysv-msg-recv $key" "$A" "sysv-msg-send $key a-message"
echo
pair "$A" "sysv-sem-wait $key" "$A" "sysv-sem-post $key"
echo
run podbox exec "$A" -- podtalk sysv-shm-write "$key" 'kept by the pod, not by its writer'
run podbox ipc "$A"
run podbox exec "$A" -- podtalk sysv-shm-read "$key"

step 'They share /dev/shm'  'It is the pod'\''s own: the host does not see the file.'
run podbox exec "$A" -- podtalk shm-write demo 'left by a process that is gone'
[[ ! -e /dev/shm/demo ]] || die 'the host sees /dev/shm/demo'
run podbox exec "$A" -- podtalk shm-read demo

step 'Everything in the pod is killed, and its pause too' \
	'A server is running; then nothing is. The address belongs to the pod'\''s record.'
podbox exec "$A" -- podtalk tcp-serve -timeout 1m -count 0 0.0.0.0:8080 >"$tmp/server" 2>&1 &
server=$!
show '' podbox exec "$A" -- podtalk tcp-serve -count 0 0.0.0.0:8080 '&'
run podtalk tcp-dial "$ip:8080" hello-from-the-host
run podbox kill -s KILL "$A"
ended=0
wait "$server" 2>/dev/null || ended=$?
indent tcp-serve "$(<"$tmp/server")"$'\n'"exit status $ended"
((ended == 137)) || die "the server was not killed but ended with status $ended"
pause=$(field "$A" PausePID)
if [[ $pause != 0 && -e /proc/$pause ]]; then
	run kill -9 "$pause"
fi
run podbox ls
run podbox start "$A"
run podbox inspect "$A" --format '{{.IP}} {{.IP6}} {{.MAC}}'
[[ $(field "$A" IP) == "$ip" && $(field "$A" IP6) == "$ip6" ]] || die "the pod came back with another address than $ip"
pair "$A" 'tcp-serve 127.0.0.1:8080' "$A" 'tcp-dial 127.0.0.1:8080 back-again'

step 'A second pod reaches the first by its address'
run podbox create "$B"
run podbox inspect "$B" --format '{{.IP}} {{.IP6}} {{.MAC}}'
[[ $(field "$B" IP) != "$ip" ]] || die 'two pods have one address'
pair "$A" 'tcp-serve 0.0.0.0:8080' "$B" "tcp-dial $ip:8080 pod-to-pod"
if [[ -n $ip6 ]]; then
	echo
	pair "$A" 'tcp-serve [::]:8080' "$B" "tcp-dial [$ip6]:8080 pod-to-pod-on-IPv6"
fi

step 'Both are removed, and nothing is left' \
	'What the machine had before the first step is compared with what it has now.'
run podbox rm -f "$A" "$B"
leftovers=$(left)
declare -A before=() after=()
while read -r kind rest; do before[$kind]=$((${before[$kind]:-0} + 1)); done <"$tmp/before"
while read -r kind rest; do after[$kind]=$((${after[$kind]:-0} + 1)); done <"$tmp/after"
echo
for kind in process link route rule neighbour nftables mount cgroup file ipc; do
	printf '          %-10s %5d before %5d now\n' "$kind" "${before[$kind]:-0}" "${after[$kind]:-0}"
done
command -v ip >/dev/null || indent '' '(without the ip command: no rules and no IPv6 neighbours compared)'
command -v nft >/dev/null || indent '' '(without the nft command: no nftables rules compared)'
if [[ -n $leftovers ]]; then
	echo
	indent 'left' "$leftovers"
	die 'the machine is not what it was'
fi

printf '\n%s%d steps in %s ms. Nothing is left of the two pods.%s\n' "$green" "$steps" "$(since "$began")" "$plain"
