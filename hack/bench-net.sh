#!/usr/bin/env bash
#
# Measures what a pod's network carries, and how fast it answers, beside the bridge of the
# CNI plugins that podman uses (bridge, host-local, portmap, firewall, tuning), in one
# run, and prints a report in Markdown.
#
# usage: hack/bench-net.sh [--out FILE]
#
# Ways: from the host to a pod and back, from pod to pod, from outside and from 127.0.0.1 to a
# published port. For each, TCP by one connection and by eight, and UDP, by iperf3, and the
# time of one answer by sockperf; sockperf 3.7 has no IPv6. The two take turns, so that
# what else the machine does is done to both. ROUNDS (3) says how often, SECS (1) how long each time; WAYS,
# a regular expression, chooses ways, KINDS ("tcp1 tcp8 udp tcp-answer udp-answer") what is measured.
#
# With CPU=N both ends of sockperf run on that one CPU, in real time: then the time to an answer
# is what a way costs, whatever else the machine does.
#
# It needs root, iperf3, sockperf, jq, iptables, ip, nsenter, the CNI plugins in CNI_PATH (/usr/lib/cni) and
# bin/podbox (make build). On Debian: apt-get install iperf3 sockperf jq iptables
# containernetworking-plugins. Each side has a host of its own, with somebody outside, made of network
# namespaces: nothing touches the machine's network.

set -euo pipefail
shopt -s nullglob

hack=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=hack/bench-room.sh
. "$hack/bench-room.sh"

secs=${SECS:-1} repeat=${ROUNDS:-3}
cni_path=${CNI_PATH:-/usr/lib/cni}
pin=()
[[ -z ${CPU:-} ]] || pin=(chrt -f 10 taskset -c "$CPU")
for tool in iperf3 sockperf jq iptables ip nsenter; do
	have "$tool" || fail "$tool is not installed (Debian: apt-get install iperf3 sockperf jq iptables iproute2)"
done
[[ -x $cni_path/bridge ]] || fail "$cni_path has no CNI plugins (Debian: apt-get install containernetworking-plugins)"

# --- two hosts ----------------------------------------------------------------

declare -A ns=() # path of the network namespace of WHO/host, outside, a, b
in_ns() { nsenter --net="${ns[$1]}" "${@:2}"; }

# host WHO makes a host that has a link to somebody outside.
host() {
	local who=$1 where
	for where in host outside; do
		ip netns add "$who-$where"
		ns[$who/$where]=/run/netns/$who-$where
		in_ns "$who/$where" ip link set lo up
	done
	in_ns "$who/host" ip link add up0 type veth peer name out0 netns "$who-outside"
	in_ns "$who/host" ip addr add 192.0.2.1/24 dev up0
	in_ns "$who/host" ip addr add 2001:db8:500::1/64 dev up0 nodad
	in_ns "$who/host" ip link set up0 up
	in_ns "$who/outside" ip addr add 192.0.2.2/24 dev out0
	in_ns "$who/outside" ip addr add 2001:db8:500::2/64 dev out0 nodad
	in_ns "$who/outside" ip link set out0 up
}

declare -A address=() # of WHO/a, b, in IPv4 and with a 6 in IPv6

podbox_pods() {
	local pod
	host podbox
	for pod in a b; do
		local publish=()
		[[ $pod != a ]] || publish=(-p 26201:5201 -p 26201:5201/udp -p 26202:5202 -p 26202:5202/udp)
		in_ns podbox/host "${podbox[@]}" create "${publish[@]}" "$pod" >/dev/null
		read -r address[podbox/$pod] address[podbox/${pod}6] ns[podbox/$pod] < <(in_ns podbox/host "${podbox[@]}" inspect \
			--format '{{.IP}} {{.IP6}} /proc/{{.PausePID}}/ns/net' "$pod")
	done
}

# plugin TYPE ID NETNS calls a CNI plugin with the configuration on its input.
plugin() {
	CNI_COMMAND=ADD CNI_CONTAINERID=$2 CNI_NETNS=$3 CNI_IFNAME=eth0 CNI_PATH=$cni_path \
		nsenter --net="${ns[bridge/host]}" "$cni_path/$1"
}

# bridge_pods makes what podman's default network does, by the same plugins.
bridge_pods() {
	local pod result type ports='[]' head='{"cniVersion": "0.4.0", "name": "bench"}'
	host bridge
	for pod in a b; do
		ip netns add "bridge-$pod"
		ns[bridge/$pod]=/run/netns/bridge-$pod
		in_ns "bridge/$pod" ip link set lo up
		result=$(jq -n --arg dir "$tmp/cni" "$head"' + {type: "bridge", bridge: "cni0", isGateway: true, ipMasq: true, hairpinMode: true,
			ipam: {type: "host-local", dataDir: $dir, routes: [{dst: "0.0.0.0/0"}, {dst: "::/0"}],
			ranges: [[{subnet: "10.99.0.0/16"}], [{subnet: "fd99::/64"}]]}}' | plugin bridge "$pod" "${ns[bridge/$pod]}")
		[[ $pod != a ]] || ports='[{"hostPort": 26201, "containerPort": 5201, "protocol": "tcp"}, {"hostPort": 26201, "containerPort": 5201, "protocol": "udp"},
			{"hostPort": 26202, "containerPort": 5202, "protocol": "tcp"}, {"hostPort": 26202, "containerPort": 5202, "protocol": "udp"}]'
		for type in portmap firewall tuning; do
			[[ $type != portmap || $pod == a ]] || continue
			result=$(jq -n --argjson result "$result" --argjson ports "$ports" --arg type "$type" "$head"' + {type: $type,
				capabilities: {portMappings: true}, runtimeConfig: {portMappings: $ports}, prevResult: $result}' |
				plugin "$type" "$pod" "${ns[bridge/$pod]}")
		done
		address[bridge/$pod]=$(jq -r '[.ips[].address | select(contains(":") | not)][0]' <<<"$result" | cut -d/ -f1)
		address[bridge/${pod}6]=$(jq -r '[.ips[].address | select(contains(":"))][0]' <<<"$result" | cut -d/ -f1)
	done
}

# serve WHO/WHERE ADDRESS ADDRESS starts the servers of both tools. iperf3 answers UDP from the
# address that it is bound to, or from any.
serve() {
	in_ns "$1" iperf3 -s -p 5201 -B "$2" >/dev/null 2>&1 &
	in_ns "$1" iperf3 -s -p 5201 -B "$3" >/dev/null 2>&1 &
	in_ns "$1" "${pin[@]}" sockperf sr --tcp -i 0.0.0.0 -p 5202 >/dev/null 2>&1 &
	in_ns "$1" "${pin[@]}" sockperf sr -i 0.0.0.0 -p 5202 >/dev/null 2>&1 &
}

# --- measuring ----------------------------------------------------------------

# throughput FROM TO PORT OPTIONS... prints Gbit/s as the other side received them.
throughput() {
	in_ns "$1" timeout $((secs + 20)) iperf3 -J -c "$2" -p "$3" -t "$secs" "${@:4}" |
		jq -e '.end | (.sum_received.bits_per_second // (.sum.bits_per_second * (100 - .sum.lost_percent) / 100)) / 1e9'
}

# udp is throughput of datagrams, as many as can be.
udp() {
	in_ns "$1" timeout $((secs + 20)) iperf3 -J -c "$2" -p "$3" -t "$secs" -u -b 0 -l 1400 |
		jq -e '.end.sum | .bits_per_second * (100 - .lost_percent) / 100 / 1e9'
}

# answer FROM TO PORT OPTIONS... prints the time to an answer and back, halved, in µs.
answer() {
	in_ns "$1" timeout $((secs + 20)) "${pin[@]}" sockperf pp -i "$2" -p "$3" -t "$secs" "${@:4}" 2>&1 |
		sed 's/\x1b\[[0-9;]*m//g' | awk '/Summary: Latency is/ { print $5; found = 1 } END { exit !found }'
}

read -ra kinds <<<"${KINDS:-tcp1 tcp8 udp tcp-answer udp-answer}"
declare -A title=([tcp1]='TCP, Gbit/s' [tcp8]='TCP × 8, Gbit/s' [udp]='UDP, Gbit/s' [tcp-answer]='TCP, µs' [udp-answer]='UDP, µs')

# once KIND FROM TO PORT PORT2 measures one thing once.
once() {
	case $1 in
	tcp1) throughput "$2" "$3" "$4" ;;
	tcp8) throughput "$2" "$3" "$4" -P 8 ;;
	udp) udp "$2" "$3" "$4" ;;
	tcp-answer) answer "$2" "$3" "$5" --tcp ;;
	udp-answer) answer "$2" "$3" "$5" ;;
	esac
}

# way LABEL FROM TO PORT PORT2 measures all kinds of one way, podbox and bridge in turn. TO is
# an address, or a pod.
way() {
	local label=$1 from=$2 to=$3 kind round who addr value failed=0
	[[ $label =~ ${WAYS:-.} ]] || return 0
	note "$label"
	local -A samples=()
	for kind in "${kinds[@]}"; do
		[[ $kind != *answer || $label != *IPv6* ]] || continue
		for ((round = 0; round < repeat; round++)); do
			for who in podbox bridge; do
				addr=${address[$who/$to]:-$to}
				value=$(once "$kind" "$who/$from" "$addr" "$4" "$5") || { failed=1 && value=''; }
				samples[$kind/$who]+=" $value"
			done
		done
	done
	row "$label" # of what there is
	((failed == 0)) || note "$label: something could not be measured"
}

middle() { tr ' ' '\n' | sort -g | awk '$1 != "" { v[++n] = $1 } END { if (n) print n % 2 ? v[(n + 1) / 2] : (v[n / 2] + v[n / 2 + 1]) / 2 }'; }

# row prints what was measured of one way, and notes the ratios.
row() {
	local kind a b cells=() cell
	for kind in "${kinds[@]}"; do
		a=$(middle <<<"${samples[$kind/podbox]:-}") b=$(middle <<<"${samples[$kind/bridge]:-}")
		if [[ -z $a || -z $b ]]; then
			cells+=('–')
			continue
		fi
		cell=$(awk -v a="$a" -v b="$b" -v kind="$kind" 'BEGIN {
			r = kind ~ /answer/ ? b / a : a / b
			printf "%.3g / %.3g (%s%.2f%s)", a, b, r < 0.95 ? "**" : "", r, r < 0.95 ? "**" : "" }')
		cells+=("$cell")
		awk -v a="$a" -v b="$b" -v kind="$kind" 'BEGIN { print kind, kind ~ /answer/ ? b / a : a / b }' >>"$tmp/ratios"
	done
	printf '| %s |' "$1"
	printf ' %s |' "${cells[@]}"
	echo
}

row_ways() {
	local kind
	mount -t tmpfs run /run
	mkdir /run/netns /run/lock
	: >"$tmp/ratios"
	podbox_pods
	bridge_pods
	sleep 3 # the bridge's addresses of IPv6 are tentative first
	local who
	for who in podbox bridge; do
		serve "$who/a" "${address[$who/a]}" "${address[$who/a6]}"
		serve "$who/host" 192.0.2.1 2001:db8:500::1
	done
	sleep 0.5
	echo '## Throughput, and the time to an answer'
	echo
	echo 'Each cell: podbox / bridge (how much better podbox is: above 1 it carries more, or answers sooner). Medians.'
	echo
	printf '| |'
	for kind in "${kinds[@]}"; do printf ' %s |' "${title[$kind]}"; done
	echo
	printf '| --- |'
	printf ' ---: |%.0s' "${kinds[@]}"
	echo
	way 'host → pod' host a 5201 5202
	way 'pod → host' a 192.0.2.1 5201 5202
	way 'pod → pod' b a 5201 5202
	way 'outside → published port' outside 192.0.2.1 26201 26202
	way '127.0.0.1 → published port' host 127.0.0.1 26201 26202
	way 'host → pod, IPv6' host a6 5201 5202
	way 'pod → host, IPv6' a 2001:db8:500::1 5201 5202
	way 'pod → pod, IPv6' b a6 5201 5202
	way 'outside → published port, IPv6' outside 2001:db8:500::1 26201 26202
	echo
	for kind in "${kinds[@]}"; do
		goal "${title[$kind]}: podbox / bridge, geometric mean of all ways" \
			"$(awk -v k="$kind" '$1 == k { s += log($2); n++ } END { printf "%.2f", n ? exp(s / n) : 0 }' "$tmp/ratios")" '>=' 0.95
	done
}

leave() { leave_pods; }

# heading replaces that of bench-room.sh, which tells of hyperfine.
heading() {
	echo "# $1"
	echo
	echo "- $(date -u '+%Y-%m-%d %H:%M UTC'), Linux $(uname -r) $(uname -m), $(nproc) CPUs ($(awk -F': ' '/^model name/ { print $2; exit }' /proc/cpuinfo)), load $(cut -d' ' -f1-3 /proc/loadavg)"
	"$binary" version | sed -n '1s/^/- /p'
	echo "- $(iperf3 --version | head -n 1), $(sockperf --version | head -n 1), $(iptables --version), CNI plugins $(dpkg-query -Wf '${Version}' containernetworking-plugins 2>/dev/null || echo 'of unknown version')"
	echo "- \`ROUNDS=$repeat SECS=$secs${CPU:+ CPU=$CPU} hack/bench-net.sh\`: the two in turn, each way and kind $repeat times $secs s"
}

all=(ways)
begin "$@"
report 'Pods on the network, beside a bridge'
