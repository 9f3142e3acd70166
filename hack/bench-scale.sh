#!/usr/bin/env bash
#
# Measures what many pods with published ports do to whoever makes the next one: create,
# ls, publish, unpublish, reload and rm at 10, 1,000 and 2,000 pods, beside podman and beside
# the CNI plugins bridge, host-local and portmap, as far as those get in a short time. Prints a
# report in Markdown.
#
# usage: hack/bench-scale.sh [--out FILE]
#
# MARKS ("10 1000 2000") says at how many pods, SAMPLES (10) how often; CNI_MARKS ("10 100 300")
# and PODMAN_MARKS ("10 30") are the peers'. ROWS, a regular expression, chooses among podbox, cni
# and podman.
#
# It needs root, hyperfine and busybox for bench-room.sh, jq, iptables, the CNI plugins in CNI_PATH
# (/usr/lib/cni), podman and bin/podbox (make build); what is missing of the peers is left out. On Debian: apt-get
# install hyperfine busybox-static jq iptables containernetworking-plugins podman runc. All runs in
# namespaces of its own.

set -euo pipefail
shopt -s nullglob

hack=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=hack/bench-room.sh
source "$hack/bench-room.sh"
all=(podbox cni podman)

samples=${SAMPLES:-10}
cni_path=${CNI_PATH:-/usr/lib/cni}

# heading replaces that of bench-room.sh, which tells of hyperfine.
heading() {
	echo "# $1"
	echo
	echo "- $(date -u '+%Y-%m-%d %H:%M UTC'), Linux $(uname -r) $(uname -m), $(nproc) CPUs ($(awk -F': ' '/^model name/ { print $2; exit }' /proc/cpuinfo)), $(awk '/^MemTotal/ { print int($2 / 1024) }' /proc/meminfo) MB, load $(cut -d' ' -f1-3 /proc/loadavg)"
	"$binary" version | sed -n '1s/^/- /p'
	echo "- $(version podman --version), $(version runc --version), $(version iptables --version), CNI plugins $(dpkg-query -Wf '${Version}' containernetworking-plugins 2>/dev/null || echo 'of unknown version')"
	echo "- \`SAMPLES=$samples hack/bench-scale.sh\`: whole commands, medians; each pod publishes a port"
}

# timed NAME N COMMAND... runs a command and notes the ms that it took, at N pods.
declare -A ms=()
timed() {
	local t0=$EPOCHREALTIME
	"${@:3}" >/dev/null || fail "$1 at $2 pods: ${*:3}"
	ms[$1/$2]+=" $((${EPOCHREALTIME/[.,]/} - ${t0/[.,]/}))"
}

# lines NAME... prints a line of a table for each: the medians at all marks, and the last by the first.
lines() {
	local name mark cells value first
	for name; do
		cells='' first='' value=''
		for mark in "${marks[@]}"; do
			value=$(tr -s ' ' '\n' <<<"${ms[$name/$mark]:-}" | sort -g | awk '$1 != "" { v[++n] = $1 } END {
				if (n) printf "%.1f", (n % 2 ? v[(n + 1) / 2] : (v[n / 2] + v[n / 2 + 1]) / 2) / 1000 }')
			[[ -n $first ]] || first=$value
			cells+=" ${value:-–} |"
		done
		echo "| $name |$cells $(ratio "${value:-0}" "${first:-1}") |"
	done
}

titles() {
	local mark
	printf '| ms |'
	for mark in "${marks[@]}"; do printf ' at %s |' "$mark"; done
	echo ' last / first |'
	printf '| --- |'
	printf ' ---: |%.0s' "${marks[@]}" last
	echo
}

# --- podbox -------------------------------------------------------------------

pods=0
podbox_pod() {
	pods=$((pods + 1))
	"${podbox[@]}" create -p "$((20000 + pods)):80" "scale-$pods"
}

row_podbox() {
	local mark i name t0 took
	marks=()
	read -ra marks <<<"${MARKS:-10 1000 2000}"
	echo '## podbox'
	echo
	for ((i = 0; i < 5; i++)); do # the first makes what all share
		podbox_pod >/dev/null
	done
	for mark in "${marks[@]}"; do
		note "podbox: $mark pods"
		while ((pods < mark)); do podbox_pod >/dev/null; done
		for ((i = 0; i < samples; i++)); do timed 'create -p' "$mark" "${podbox[@]}" create -p "$((30000 + i)):80" "scale-more-$i"; done
		for ((i = 0; i < samples; i++)); do timed 'rm -f, one' "$mark" "${podbox[@]}" rm -f "scale-more-$i"; done
		for ((i = 0; i < samples; i++)); do timed 'create, without a port' "$mark" "${podbox[@]}" create "scale-more-$i"; done
		"${podbox[@]}" rm -f scale-more-{0..99} >/dev/null
		for ((i = 0; i < samples; i++)); do
			name=scale-$((1 + i % pods))
			timed 'publish, TCP' "$mark" "${podbox[@]}" publish "$name" $((31000 + i)):81
			timed 'unpublish, TCP' "$mark" "${podbox[@]}" unpublish "$name" $((31000 + i)):81
			timed 'publish, UDP' "$mark" "${podbox[@]}" publish "$name" $((31000 + i)):81/udp
			timed 'unpublish, UDP' "$mark" "${podbox[@]}" unpublish "$name" $((31000 + i)):81/udp
			timed ls "$mark" "${podbox[@]}" ls
			timed 'exec true' "$mark" "${podbox[@]}" exec "$name" -- true
		done
		for ((i = 0; i < 3; i++)); do timed 'network reload' "$mark" "${podbox[@]}" network reload; done
	done
	t0=$EPOCHREALTIME
	"${podbox[@]}" rm -f -a >/dev/null
	took=$(((${EPOCHREALTIME/[.,]/} - ${t0/[.,]/}) / 1000))
	titles
	lines 'create -p' 'create, without a port' ls 'publish, TCP' 'unpublish, TCP' 'publish, UDP' 'unpublish, UDP' 'network reload' 'exec true' 'rm -f, one'
	echo
	echo "\`podbox rm -f -a\` of $pods pods: $took ms, $(ratio "$took" "$pods") each."
	local last=${marks[-1]} first=${marks[0]} name
	for name in 'create -p' 'publish, TCP' 'publish, UDP'; do
		goal "$name at $last pods / at $first" "$(ratio "$(total "$name/$last")" "$(total "$name/$first")")" '<=' 1.5
	done
}

# total prints the median of what was noted.
total() { tr -s ' ' '\n' <<<"${ms[$1]}" | sort -g | awk '$1 != "" { v[++n] = $1 } END { print v[int((n + 1) / 2)] }'; }

# --- CNI ----------------------------------------------------------------------

# cni COMMAND N calls bridge with host-local, and then portmap, for the Nth namespace; the other way
# round for DEL.
cni() {
	local head='{"cniVersion": "0.4.0", "name": "scale"}' bridge portmap result='{}' plugin order=(bridge portmap)
	bridge=$(jq -c --arg dir "$tmp/cni" '. + {type: "bridge", bridge: "cni0", isGateway: true, ipMasq: true, hairpinMode: true,
		ipam: {type: "host-local", dataDir: $dir, routes: [{dst: "0.0.0.0/0"}], ranges: [[{subnet: "10.99.0.0/16"}]]}}' <<<"$head")
	portmap='{"cniVersion": "0.4.0", "name": "scale", "type": "portmap", "capabilities": {"portMappings": true}, "runtimeConfig": {"portMappings":
		[{"hostPort": '$((20000 + $2))', "containerPort": 80, "protocol": "tcp"}]}'
	[[ $1 == ADD ]] || order=(portmap bridge)
	for plugin in "${order[@]}"; do
		result=$(
			export CNI_COMMAND=$1 CNI_CONTAINERID=scale-$2 CNI_NETNS=/run/netns/scale-$2 CNI_IFNAME=eth0 CNI_PATH=$cni_path
			case $plugin in
			bridge) nsenter --net=/run/netns/scale-host "$cni_path/bridge" <<<"$bridge" ;;
			portmap) nsenter --net=/run/netns/scale-host "$cni_path/portmap" <<<"$portmap$([[ $1 == DEL ]] || echo ", \"prevResult\": $result")}" ;;
			esac
		) || return
	done
}

row_cni() {
	local mark i n=0
	[[ -x $cni_path/bridge ]] && have jq && have iptables || return 0
	marks=()
	read -ra marks <<<"${CNI_MARKS:-10 100 300}"
	mount -t tmpfs run /run
	mkdir /run/netns /run/lock
	ip netns add scale-host
	nsenter --net=/run/netns/scale-host ip link set lo up
	for mark in "${marks[@]}"; do
		note "CNI: $mark namespaces"
		while ((n < mark)); do
			n=$((n + 1))
			ip netns add "scale-$n"
			cni ADD "$n"
		done
		for ((i = 60000; i < 60000 + samples / 2; i++)); do
			ip netns add "scale-$((i - 20000))"
			timed 'ADD: bridge, host-local, portmap' "$mark" cni ADD "$((i - 20000))"
		done
		for ((i = 60000; i < 60000 + samples / 2; i++)); do
			timed 'DEL: portmap, bridge, host-local' "$mark" cni DEL "$((i - 20000))"
			ip netns del "scale-$((i - 20000))"
		done
	done
	echo '## CNI: bridge, host-local, portmap'
	echo
	echo 'The plugins alone, for namespaces that are there: no pod, no container. A bridge has 1,023 ports.'
	echo
	titles
	lines 'ADD: bridge, host-local, portmap' 'DEL: portmap, bridge, host-local'
}

# --- podman -------------------------------------------------------------------

row_podman() {
	local mark i n=0 config
	have podman || return 0
	marks=()
	read -ra marks <<<"${PODMAN_MARKS:-10 30}"
	furnish_podman
	"${podman[@]}" pod rm -f -t 0 "$tag" >/dev/null
	config=$tmp/podman/net
	mkdir "$config"
	cat >>"$tmp/podman/containers.conf" <<-END
		[network]
		network_backend = "cni"
		network_config_dir = "$config"
		cni_plugin_dirs = ["$cni_path"]
	END
	cat >"$config/87-podman.conflist" <<-END
		{"cniVersion": "0.4.0", "name": "podman", "plugins": [
		  {"type": "bridge", "bridge": "cni-podman0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
		   "ipam": {"type": "host-local", "routes": [{"dst": "0.0.0.0/0"}],
		            "ranges": [[{"subnet": "10.201.0.0/16", "gateway": "10.201.0.1"}]]}},
		  {"type": "portmap", "capabilities": {"portMappings": true}},
		  {"type": "firewall"},
		  {"type": "tuning"}]}
	END
	podman_pod() {
		"${podman[@]}" pod create --cgroup-parent "/$tag" --network podman -p "$((40000 + $1)):80" "scale-$1" &&
			"${podman[@]}" pod start "scale-$1"
	}
	for mark in "${marks[@]}"; do
		note "podman: $mark pods"
		while ((n < mark)); do
			n=$((n + 1))
			podman_pod "$n" >/dev/null
		done
		for ((i = 1; i <= (samples + 1) / 2; i++)); do timed 'pod create -p; pod start' "$mark" podman_pod "$((1000 + i))"; done
		for ((i = 1; i <= (samples + 1) / 2; i++)); do timed 'pod ps' "$mark" "${podman[@]}" pod ps; done
		for ((i = 1; i <= (samples + 1) / 2; i++)); do timed 'pod rm -f' "$mark" "${podman[@]}" pod rm -f -t 0 "scale-$((1000 + i))"; done
	done
	echo '## podman, with the same plugins'
	echo
	titles
	lines 'pod create -p; pod start' 'pod ps' 'pod rm -f'
}

leave() { leave_pods; }

begin "$@"
report 'Many pods with published ports'
