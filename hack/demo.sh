#!/usr/bin/env bash
#
# Shows what podbox is for, on real programs: separate processes meet in a pod by
# every means that the members of a pod have, the pod survives the death of
# everything in it, and pods reach each other; then the same with containers, which
# have roots of their own, are restarted when they are killed, limited, and stopped
# in order; pods of Kubernetes' manifests; and removed pods leave nothing.
#
# usage: hack/demo.sh        after building bin/podbox and bin/podtalk (make demo)
#
# It needs root (and asks sudo for it), bash, coreutils and the kernel; no network:
# images are made of what is here. redis-server and nginx, or busybox, are shown too if they are
# installed. It makes the pods demo-a, demo-b and demo-c and removes them, also when
# it is interrupted or a step fails.

set -euo pipefail
shopt -s globstar nullglob dotglob

readonly A=demo-a B=demo-b C=demo-c
readonly key=0x706f64 # of the System V objects: "pod"

hack=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
bin=${PODBOX_BIN:-$(dirname "$hack")/bin}
for program in podbox podbox-kube podtalk; do
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
		[[ $word == *[\ \{\;]* ]] && word="'$word'"
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

# background shows a command that prints the ID of what it leaves running, which
# nobody wants to read.
background() {
	local t0=$EPOCHREALTIME
	out=$("$@" 2>&1) || die "$out"
	show "$(since "$t0")" "$@"
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

# containers runs both halves of a conversation in containers of pod C, each with a
# root in which there is nothing but podtalk: containers NAME 'PODTALK ARGS' NAME
# 'PODTALK ARGS' [RUN FLAGS...]. The first receives, in the background. The second is
# there while it speaks. What they printed is left in $received and $sent.
containers() {
	local -a first second flags=(--rootfs box "${@:5}")
	read -ra first <<<"$2"
	read -ra second <<<"$4"
	background podbox run -d --name "$1" "${flags[@]}" "$C" -- /podtalk "${first[@]}"
	local t0=$EPOCHREALTIME
	sent=$(podbox run --rm --name "$3" "${flags[@]}" "$C" -- /podtalk "${second[@]}" 2>&1) || die "$sent"
	show "$(since "$t0")" podbox run --rm --name "$3" "${flags[@]}" "$C" -- /podtalk "${second[@]}"
	indent "$(printf '%-*s' ${#1} "$3")" "$sent"
	[[ $(podbox wait -c "$1" "$C") == 0 ]] || die "container $1 has failed: $(podbox logs -c "$1" "$C" 2>&1)"
	received=$(podbox logs -c "$1" "$C")
	show '' podbox logs -c "$1" "$C"
	indent "$(printf '%-*s' ${#3} "$1")" "$received"
	podbox rm -c "$1" "$C"
}

# inside shows a podtalk command in a container of pod C: inside NAME ARGS...
inside() { run podbox exec -c "$1" "$C" -- /podtalk "${@:2}"; }

# of prints a field of a container of pod C: of NAME FIELD
of() { podbox ps -a --format "{{if eq .Name \"$1\"}}{{.$2}}{{end}}" "$C" | grep .; }

# restarted tells by its status whether a container has been.
restarted() { [[ $(of "$1" Restarts) == 1 && $(of "$1" State) == running ]]; }

# supervised tells whether it has a supervisor.
supervised() { [[ $(of "$1" Supervised) == true ]]; }

# again repeats a command until it succeeds, which some programs take a moment for.
again() {
	local deadline=$((SECONDS + 5))
	until "$@" >/dev/null 2>&1; do
		((SECONDS < deadline)) || die "$* still fails"
		sleep 0.02
	done
}

field() { podbox inspect "$1" --format "{{.$2}}"; }

# --- looking -----------------------------------------------------------------

# world prints what a pod could leave on the machine, one thing a line, its kind
# first. It leaves out what the kernel changes by itself: counters, ages, and
# neighbours that it learned.
world() {
	local f pid name rest
	# Processes in a cgroup of podbox's, as all are that it starts, and its own
	# wherever they are, but for those of a podbox in a container, which is somebody
	# else's. A kernel thread has no program.
	for f in /proc/[0-9]*/comm; do
		pid=${f//[!0-9]/}
		{ read -r name <"$f" && rest=$(<"/proc/$pid/cgroup"); } 2>/dev/null || continue
		[[ -e /proc/$pid/exe ]] || continue
		if [[ $rest == *:/podbox/* ]] || { [[ $name == podbox* || $name == podtalk* ]] && [[ /proc/$pid/ns/pid -ef /proc/self/ns/pid ]]; }; then
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
			[[ -z ${rest//\}/} ]] || echo "nftables $rest"
		done
	fi
	local -a m
	while read -ra m; do
		echo "mount ${m[3]} on ${m[4]}"
	done </proc/self/mountinfo
	for f in /sys/fs/cgroup/**/; do
		# Those of pods that are recorded elsewhere (podbox --root) come and go.
		[[ $f == */podbox-* ]] || echo "cgroup ${f%/}"
	done
	for f in /run/podbox/** /var/lib/podbox/** /run/netns/* /dev/shm/* /dev/mqueue/*; do
		case $f in
		# The installation's, not a pod's: its directories, which address is next,
		# and what has happened.
		/run/podbox/ | /run/podbox/pods | /run/podbox/names | /run/podbox/leases | /run/podbox/leases/next-* | /run/podbox/ports | /run/podbox/rules | /run/podbox/rules-turnstile) ;;
		/run/podbox/events* | /var/lib/podbox/ | /var/lib/podbox/pods | /var/lib/podbox/images*) ;;
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

# supervisor_of prints the process that supervises a pod.
supervisor_of() {
	local id f
	local -a words
	id=$(field "$1" ID)
	for f in /proc/[0-9]*/cmdline; do
		{ mapfile -d '' words <"$f"; } 2>/dev/null || continue
		if [[ ${words[1]-} == supervise && ${words[-1]} == "$id" ]]; then
			f=${f%/cmdline}
			echo "${f##*/}"
		fi
	done
}

# --- beginning and end -------------------------------------------------------

for pod in "$A" "$B" "$C"; do
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
	for pod in "$A" "$B" "$C"; do
		! podbox exists "$pod" 2>/dev/null || podbox rm -f -t 1 "$pod" >/dev/null || status=1
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
cd "$tmp"
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

step 'Containers have roots of their own, and talk in three ways' \
	'Each "podbox run" is a container: it has a name, a record, processes and a root of' \
	'its own - here one with a single file in it - the usual few capabilities and a' \
	'filter of system calls. The first way to talk is a volume of the pod. A reader' \
	'waits for a message; the writer is gone when another reader comes.'
mkdir box www
cp "$bin/podtalk" box/
run podbox create --volume data --memory 512m --cpus 2 --pids-limit 500 "$C"
containers reader 'file-read /data/message.txt' writer 'file-write /data/message.txt hello' -v data:/data
run podbox run --rm --name late --rootfs box -v data:/data "$C" -- /podtalk file-read /data/message.txt
[[ $received == hello && $out == hello ]] || die 'what was read is not what was written'

echo
indent '' 'The second is IPC: message queues, POSIX and System V, semaphores, shared memory.'
containers consumer 'mq-consume /demo' producer 'mq-produce /demo 3'
[[ $received == "$sent" ]] || die 'what was consumed is not what was produced'
containers consumer "sysv-msg-consume $key" producer "sysv-msg-produce $key 3"
[[ $received == "$sent" ]] || die 'what was consumed is not what was produced'
containers waiter 'sem-wait demo' poster 'sem-post demo'
containers reader 'shm-read demo' writer 'shm-write demo hello'

echo
indent '' 'The third is localhost. Either of the two is process 1 of its container.'
containers server 'tcp-serve 127.0.0.1:8080' client 'tcp-dial 127.0.0.1:8080 hello'
containers server 'udp-serve 127.0.0.1:8080' client 'udp-dial 127.0.0.1:8080 hello'

step 'A container is killed, and replaced; the other one notices nothing' \
	'The worker leaves something in a volume, a queue and shared memory. Its supervisor' \
	'starts another one in its place.'
background podbox run -d --name other --rootfs box "$C" -- /podtalk tcp-serve -timeout 1h -count 0 127.0.0.1:8080
background podbox run -d --name worker --restart always --rootfs box -v data:/data "$C" -- /podtalk udp-serve -timeout 1h -count 0 127.0.0.1:8080
inside worker file-write /data/kept in-the-volume
inside worker sysv-msg-send "$key" in-the-queue
inside worker shm-write kept in-shared-memory
inside worker addresses
who=$out other=$(of other PID)
run podbox ps "$C"
run kill -9 "$(of worker PID)"
again restarted worker
run podbox ps "$C"
inside worker addresses
[[ $out == "$who" ]] || die "name and addresses are not those of before"
inside worker file-read /data/kept
inside worker sysv-msg-recv "$key"
inside worker shm-read kept
inside worker tcp-dial 127.0.0.1:8080 are-you-still-there
run podbox logs -c other "$C"
[[ $(of other PID) == "$other" && $(of other Restarts) == 0 ]] || die 'the other container is not what it was'

step 'The supervisor is killed: containers run on, and the next one takes them over' \
	'What they write meanwhile waits in their pipes, and comes to the log then.'
supervisor=$(supervisor_of "$C")
run kill -9 "$supervisor"
run podbox ps "$C"
again supervised other
run podbox ps "$C"
[[ $(supervisor_of "$C") != "$supervisor" && $(of other PID) == "$other" ]] || die 'the containers were not taken over'

if command -v redis-server >/dev/null || command -v nginx >/dev/null || command -v busybox >/dev/null; then
	step 'Programs of this machine run in containers whose root is its own, read-only' \
		'They write to a volume, or to a directory in memory.'
	machine=(--rootfs / --read-only)
	if command -v nginx >/dev/null; then
		cat >www/nginx.conf <<-END
			daemon off; pid /tmp/pid; error_log stderr;
			events {}
			http {
				access_log off; client_body_temp_path /tmp/body; proxy_temp_path /tmp/proxy;
				fastcgi_temp_path /tmp/fastcgi; uwsgi_temp_path /tmp/uwsgi; scgi_temp_path /tmp/scgi;
				server { listen 127.0.0.1:80; root /srv; }
			}
		END
		www=(nginx -c /srv/nginx.conf)
	else
		www=(busybox httpd -f -p 127.0.0.1:80 -h /srv)
	fi
	echo "from ${www[0]}" >www/hello
	ask="exec 3<>/dev/tcp/127.0.0.1/80; printf \"GET /hello HTTP/1.0\\r\\n\\r\\n\" >&3; tail -n 1 <&3"
	background podbox run -d --name www "${machine[@]}" --tmpfs /tmp -v "$PWD/www:/srv:ro" "$C" -- "${www[@]}"
	again podbox exec "$C" -- bash -c "$ask"
	run podbox exec "$C" -- bash -c "$ask"
	[[ $out == "from ${www[0]}" ]] || die 'it did not answer'
	if command -v redis-server >/dev/null && command -v redis-cli >/dev/null; then
		background podbox run -d --name db --restart always "${machine[@]}" -v data:/mnt "$C" -- redis-server --dir /mnt --appendonly yes
		again podbox exec "$C" -- redis-cli ping
		run podbox run --rm "${machine[@]}" "$C" -- redis-cli incr visits
		run podbox kill -c db -s KILL "$C"
		again restarted db
		again podbox exec "$C" -- redis-cli ping
		run podbox run --rm "${machine[@]}" "$C" -- redis-cli incr visits
		[[ $out == 2 ]] || die 'it has lost what it knew'
	fi
	run podbox top "$C"
fi

step 'A container that wants more than it may have is ended, and nothing else' \
	'The limits of the pod hold for all of its programs together, those of a container' \
	'for this one.'
run podbox stats --no-stream "$C"
greedy=(podbox run --name greedy --memory 16m --rootfs / --read-only "$C" -- dd if=/dev/zero of=/dev/null bs=64M count=1)
t0=$EPOCHREALTIME ended=0
"${greedy[@]}" >"$tmp/greedy" 2>&1 || ended=$?
show "$(since "$t0")" "${greedy[@]}"
indent '' "exit status $ended"
((ended == 137)) || die "it was not killed: $(<"$tmp/greedy")"
run podbox ps -a "$C"
[[ $(of greedy OOM) == true ]] || die 'not for want of memory'

step 'A pod stops in order, and comes back with its containers' \
	'The last one that was started is asked first. Address and volumes stay.'
ip=$(field "$C" IP)
moment=$(date -u +%FT%T.%NZ)
run podbox stop -t 3 "$C"
run podbox events --since "$moment" --stream=false --format '{{.Action}} {{.Container}}' "$C"
run podbox start "$C"
run podbox ps "$C"
[[ $(field "$C" IP) == "$ip" ]] || die "the pod came back with another address than $ip"
run podbox run --rm --rootfs box -v data:/data "$C" -- /podtalk file-read /data/kept

step 'The pods that people have: manifests for Kubernetes, and images' \
	'A writer and a reader on a volume, a producer and a consumer on a message queue, a' \
	'server and a client on localhost. Pods, records and images are kept elsewhere here.'
manifests=$(dirname "$hack")/testdata/pods
elsewhere=(--root "$tmp/run" --state-dir "$tmp/state")
mkdir -m 0700 run
run podbox image import "${elsewhere[@]}" -c 'ENTRYPOINT ["/podtalk"]' box localhost/podtalk:pods
files=(-f "$manifests/message-queue.yaml" -f "$manifests/loopback.yaml")
pods=(message-queue loopback)
if command -v busybox >/dev/null; then
	mkdir -p sh/bin && cp "$(command -v busybox)" sh/bin/busybox
	for applet in sh cat sleep; do ln -s busybox "sh/bin/$applet"; done
	run podbox image import "${elsewhere[@]}" sh localhost/busybox:pods
	files+=(-f "$manifests/shared-volume.yaml")
	pods+=(shared-volume)
fi
run podbox apply "${elsewhere[@]}" "${files[@]}"
succeeded() { [[ $(podbox inspect "${elsewhere[@]}" "$1" --format '{{.Status.Phase}}') == Succeeded ]]; }
for pod in "${pods[@]}"; do
	SECONDS=0
	until succeeded "$pod"; do
		((SECONDS < 15)) || die "pod $pod does not come to its end"
		sleep 0.1
	done
	run podbox inspect "${elsewhere[@]}" "$pod" --format '{{.Status.Phase}}'
done
run podbox logs "${elsewhere[@]}" -c consumer message-queue
run podbox logs "${elsewhere[@]}" -c client loopback
((${#pods[@]} < 3)) || run podbox logs "${elsewhere[@]}" -c reader shared-volume
run podbox delete "${elsewhere[@]}" "${files[@]}"

step 'All are removed, and nothing is left' \
	'What the machine had before the first step is compared with what it has now.'
run podbox rm -f -t 3 "$A" "$B" "$C"
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

printf '\n%s%d steps in %s ms. Nothing is left of the three pods.%s\n' "$green" "$steps" "$(since "$began")" "$plain"
