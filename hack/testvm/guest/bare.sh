#!/bin/bash
# Process 1 of a bare machine: runs the tests and says how they ended.
export PATH=/testvm/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/root USER=root LC_ALL=C.UTF-8 TMPDIR=/tmp PODBOX_PRIVILEGED=1
mount -t proc proc /proc
PODBOX_TEST_SLOW=$(tr ' ' '\n' </proc/cmdline | sed -n 's/^testvm\.slow=//p')
export PODBOX_TEST_SLOW
mount -t sysfs sysfs /sys
mkdir -p /dev/pts /dev/shm /dev/mqueue
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o mode=1777 shm /dev/shm
mount -t mqueue mqueue /dev/mqueue
mount -t tmpfs -o mode=755 run /run
mount -t cgroup2 -o nsdelegate cgroup2 /sys/fs/cgroup
hostname testvm
ip link set lo up
# What loads these on a machine of another kind is whoever uses them first, from a
# namespace of its own, where the kernel may refuse to.
modprobe -qa veth overlay nf_tables nft_chain_nat nft_nat nft_masq nft_ct nft_fib nft_fib_inet nft_redir nft_limit nft_reject_inet \
	nf_conntrack_netlink sch_tbf sch_ingress sch_htb sch_fq_codel cls_u32 cls_matchall act_mirred act_police ifb bridge macvlan dummy xt_comment xt_MASQUERADE iptable_nat loop

# A port is for one who has it open: all inherit it.
port=/dev/$(basename "$(dirname "$(grep -lx testvm /sys/class/virtio-ports/*/name)")")
[[ -e /dev/ttyS0 ]] && exec </dev/null
exec >"$port" 2>&1
echo "testvm: linux $(uname -r), $(nproc) processors, $(awk '/MemTotal/ { print int($2 / 1024) }' /proc/meminfo) MiB"

# run PACKAGE SECONDS PROGRAM [FLAG...] says what it said when it has ended: of several that run
# at the same time, one after the other.
run() {
	local out status began=$SECONDS
	out=$(mktemp)
	(cd "/testvm/src/$1" && exec timeout --signal=KILL "$2" "${@:3}") >"$out" 2>&1 9>&-
	status=$?
	flock 9
	echo "testvm: begin $1"
	cat "$out"
	echo
	echo "testvm: end $1 $status $((SECONDS - began))"
	flock -u 9
}
# One waits much of its time.
jobs=$(nproc)
while read -r -a line; do
	((jobs-- > 0)) || wait -n
	run "${line[@]}" 9>>/run/turn &
done </testvm/tests
wait
echo 'testvm: done'
sync
sleep 1 # until the port has been read
exec /bin/busybox poweroff -f
