#!/usr/bin/env bash
#
# Tries pods beside the firewalls that people have: Debian's ufw, firewalld and Docker, each
# in a room of its own. It sees that podbox doctor tells of the firewall, does what doctor
# gives for a cure, to the letter, and sees that packets then go every way, and that doctor is
# content. Nothing of it is installed on the machine, and no packet leaves it.
#
# usage: hack/firewalls.sh [ufw|firewalld|docker]...      without, all of them
#
# It needs root, bin/podbox (or PODBOX), socat, iproute2 and nftables, and apt-get with Debian's packages.
set -euo pipefail

hack=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
podbox=${PODBOX:-$(dirname "$hack")/bin/podbox}

fail() {
	echo "firewalls.sh: $*" >&2
	exit 1
}

# --- the room -----------------------------------------------------------------

# A room has network, processes and mounts to itself, and a copy of the machine's files,
# which is in memory and gone with it.
enter() {
	unshare --net --mount --pid --fork --kill-child --mount-proc --propagation private -- "$0" --build "$@"
}

build() {
	local dir=$FIREWALLS_TMP/room root
	mkdir -p "$dir"
	mount -t tmpfs room "$dir"
	root=$dir/root
	mkdir "$dir/upper" "$dir/work" "$root"
	mount -t overlay overlay -o "lowerdir=/,upperdir=$dir/upper,workdir=$dir/work" "$root"
	mount -t proc proc "$root/proc"
	mount -t sysfs sysfs "$root/sys"
	mount --rbind /dev "$root/dev"
	mount --rbind /sys/fs/cgroup "$root/sys/fs/cgroup"
	mount -t tmpfs run "$root/run"
	mkdir "$root/run/lock" "$root/run/dbus"
	# What is not of the machine's own filesystem.
	mkdir -p "$root$FIREWALLS_TMP/debs" "$root/podbox-bin" "$root/old"
	mount --bind "$FIREWALLS_TMP/debs" "$root$FIREWALLS_TMP/debs"
	mount --bind "$(dirname "$podbox")" "$root/podbox-bin"
	install -m 0755 "$0" "$root/run/firewalls.sh"
	cd "$root"
	pivot_root . old
	cd /
	umount -l /old
	ip link set lo up
	PODBOX=/podbox-bin/$(basename "$podbox") exec /run/firewalls.sh --try "$@"
}

# --- what is tried ------------------------------------------------------------

pb() { "$podbox" --root /run/pods --state-dir /run/pods-state "$@"; }

# furnish makes a machine beside the host, and two pods that answer.
furnish() {
	unshare --net sleep infinity &
	machine=$!
	until [[ $(readlink "/proc/$machine/ns/net") != "$(readlink /proc/self/ns/net)" ]]; do sleep 0.05; done
	ip link add up0 type veth peer name lan0 netns "$machine"
	ip addr add 192.0.2.1/24 dev up0
	ip addr add 2001:db8::1/64 dev up0 nodad
	ip link set up0 up
	on_machine ip addr add 192.0.2.2/24 dev lan0
	on_machine ip addr add 2001:db8::2/64 dev lan0 nodad
	on_machine ip link set lan0 up
	ip route add default via 192.0.2.2
	ip -6 route add default via 2001:db8::2
	on_machine socat TCP6-LISTEN:7000,fork,reuseaddr,ipv6only=0 SYSTEM:'echo yes' &
	pb create -p 8080:80 web >/dev/null
	pb create other >/dev/null
	pb exec web -- socat TCP6-LISTEN:80,fork,reuseaddr,ipv6only=0 SYSTEM:'echo yes' &
	web4=$(pb inspect --format '{{.IP}}' web)
	web6=$(pb inspect --format '{{.IP6}}' web)
	until [[ $(hears TCP4:127.0.0.1:8080) == yes ]]; do sleep 0.1; done
}

on_machine() { nsenter --net --target "$machine" -- "$@"; }
hears() { timeout 3 "${@:2}" socat -u "$1,connect-timeout=2" - 2>/dev/null </dev/null || true; }

# ways tries every way, and prints those that are shut, in one line.
ways() {
	local way to from
	while read -r way to from; do
		# shellcheck disable=SC2086 # it is several words, or none
		[[ $(hears "$to" $from) == yes ]] || printf '%s ' "$way"
	done <<-END
		machine-published TCP4:192.0.2.1:8080 nsenter --net --target $machine --
		machine-published-v6 TCP6:[2001:db8::1]:8080 nsenter --net --target $machine --
		pod-machine TCP4:192.0.2.2:7000 $podbox --root /run/pods exec other --
		pod-machine-v6 TCP6:[2001:db8::2]:7000 $podbox --root /run/pods exec other --
		host-published TCP4:127.0.0.1:8080
		host-published-v6 TCP6:[::1]:8080
		host-pod TCP4:$web4:80
		pod-pod TCP4:$web4:80 $podbox --root /run/pods exec other --
		pod-pod-v6 TCP6:[$web6]:80 $podbox --root /run/pods exec other --
		pod-published TCP4:169.254.1.1:8080 $podbox --root /run/pods exec other --
		pod-itself TCP4:169.254.1.1:8080 $podbox --root /run/pods exec web --
	END
}

doctor() { pb doctor --format "{{if eq .Name \"way for packets\"}}{{.$1}}{{end}}" | tr -d '\n'; }

get() { apt-get -qq -o "Dir::Cache::archives=$FIREWALLS_TMP/debs" --no-download -y --no-install-recommends install "$@" >/run/apt.log 2>&1 || { cat /run/apt.log >&2; fail "apt-get install $*"; }; }

try() {
	local shut cure
	# Nobody starts anything but we.
	printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
	chmod 0755 /usr/sbin/policy-rc.d
	export DEBIAN_FRONTEND=noninteractive
	# What pods have beyond the room: cgroups, and programs attached to those.
	trap 'pb rm -f web other' EXIT
	furnish
	shut=$(ways)
	[[ -z $shut ]] || fail "without a firewall these ways are shut: $shut"
	[[ $(doctor Status) == ok ]] || fail "without a firewall doctor says: $(doctor Detail)"
	"start_$1"
	shut=$(ways)
	echo "$1: shuts ${shut:-nothing}"
	[[ $(doctor Status) == warn ]] || fail "$1: doctor does not tell of it"
	cure=$(doctor Cure)
	echo "$1: cure: $cure"
	sh -ec "$cure" >/run/cure.log 2>&1 || { cat /run/cure.log >&2; fail "$1: the cure does not work"; }
	shut=$(ways)
	[[ -z $shut ]] || fail "$1: after the cure these ways are shut: $shut"
	[[ $(doctor Status) == ok ]] || fail "$1: after the cure doctor says: $(doctor Detail)"
	echo "$1: ok"
}

start_ufw() {
	get ufw iptables
	ufw --force enable >/dev/null 2>&1
}

start_firewalld() {
	get firewalld dbus iptables
	# There is nobody to ask for leave.
	rm -f /usr/share/dbus-1/system-services/org.freedesktop.PolicyKit1.service
	dbus-daemon --system --fork
	firewalld --nofork --nopid >/run/firewalld.log 2>&1 &
	await firewall-cmd --state
}

start_docker() {
	get docker.io iptables
	dockerd --iptables=true --storage-driver=vfs >/run/dockerd.log 2>&1 &
	await docker version
}

await() {
	local try
	for ((try = 0; try < 300; try++)); do
		"$@" >/dev/null 2>&1 && return
		sleep 0.1
	done
	tail -20 /run/*.log >&2
	fail "$1 does not answer"
}

# --- the run ------------------------------------------------------------------

case ${1-} in
--build) build "${@:2}" ;;
--try)
	try "$2"
	exit
	;;
esac

((EUID == 0)) || fail 'needs root'
[[ -x $podbox ]] || fail "there is no $podbox: make build"
all=(ufw firewalld docker)
(($# > 0)) && all=("$@")
FIREWALLS_TMP=$(mktemp -d "${TMPDIR:-/tmp}/firewalls.XXXXXX")
export FIREWALLS_TMP PODBOX=$podbox
trap 'rm -rf "$FIREWALLS_TMP"' EXIT
mkdir -p "$FIREWALLS_TMP/debs/partial"
apt-get -qq update
apt-get -qq -o "Dir::Cache::archives=$FIREWALLS_TMP/debs" -o APT::Sandbox::User=root -d -y --no-install-recommends install ufw firewalld docker.io dbus iptables >/dev/null
for f in "${all[@]}"; do
	[[ $(type -t "start_$f") == function ]] || fail "$f: want ufw, firewalld or docker"
	enter "$f"
done
