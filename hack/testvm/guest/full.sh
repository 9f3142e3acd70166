#!/bin/bash
# Checks of podbox on a whole Debian, run when that has come up: twice, the second time
# after a reboot. What a check prints is shown if it fails.

export HOME=/root LC_ALL=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
port=/dev/$(basename "$(dirname "$(grep -lx testvm /sys/class/virtio-ports/*/name)")")
exec </dev/null >"$port" 2>&1

kept=/var/lib/testvm # from one boot to the next
box=/srv/box         # a root with busybox
# A second installation, whose records are on a disk.
disk=(--root /var/lib/podbox-disk/run --state-dir /var/lib/podbox-disk/state)

# What is wanted, if not everything; with what comes after needs.
only=$(tr ' ' '\n' </proc/cmdline | sed -n 's/^testvm\.run=//p')

# check NAME runs the function of that name.
check() {
	local began=$SECONDS status
	[[ -z $only || $1 =~ $only || $1 == installed || $1 == prepare ]] || return 0
	echo "testvm: begin full/$1"
	(
		set -euo pipefail
		PS4='+ ${FUNCNAME[0]-}: '
		set -x
		"$1"
	)
	status=$?
	echo "testvm: end full/$1 $status $((SECONDS - began))"
}

# until COMMAND tries it for a minute.
until_ok() {
	local try status=1
	set +x
	for ((try = 0; try < 120; try++)); do
		if "$@"; then
			status=0
			break
		fi
		sleep 0.5
	done
	set -x
	return $status
}
gone() { ! kill -0 "$1" 2>/dev/null; }
refused() { if "$@"; then echo "it works: $*"; return 1; fi; }
equal() { [[ $1 == "$2" ]] || { echo "it is '$1', not '$2'"; return 1; }; }

# state POD [FLAG...] prints how it is.
state() { podbox ls "${@:2}" --format '{{.Name}} {{.State}}' | sed -n "s/^$1 //p"; }
# alive POD: it runs, and its container c.
alive() {
	equal "$(state "$1")" running
	equal "$(podbox inspect -c c --format '{{.State}}' "$1")" running
	podbox exec -c c "$1" -- true
}

# on_disk prints how many pods have something there.
on_disk() { find /var/lib/podbox/pods -mindepth 1 -maxdepth 1 | wc -l; }

# --- before -------------------------------------------------------------------

installed() {
	if ls /testvm/dist/*.deb; then
		dpkg -i /testvm/dist/*.deb
	else
		install -m 0755 /testvm/bin/podbox /testvm/bin/podbox-kube /usr/bin/
	fi
	podbox version
	mkdir -p $box/bin $box/proc $box/sys $box/dev $box/tmp
	cp /bin/busybox $box/bin/
	echo secret >$box/secret
	install -m 0755 /testvm/bin/podtalk $box/
	chroot $box /bin/busybox --install -s /bin
	podbox image import $box localhost/box:1
}

doctor() {
	podbox doctor
}

# Pods and containers are not of the session that they were made in: it ends, and logind kills
# what it finds in it.
session() {
	# Empty, it would be root, who is the one here.
	mkdir -p /root/.ssh /etc/systemd/logind.conf.d
	chmod 0700 /root/.ssh
	printf '[Login]\nKillUserProcesses=yes\nKillExcludeUsers=nobody\n' >/etc/systemd/logind.conf.d/testvm.conf
	systemctl restart systemd-logind
	ssh-keygen -q -N '' -t ed25519 -f /root/.ssh/id
	cp /root/.ssh/id.pub /root/.ssh/authorized_keys
	systemctl start ssh
	remote() { ssh -i /root/.ssh/id -o StrictHostKeyChecking=no -o BatchMode=yes root@127.0.0.1 "$@"; }
	remote "podbox create session && podbox run -d --name c --rootfs $box session -- sleep 100000; cat /proc/self/cgroup"
	local pid
	pid=$(remote 'sleep 100000 </dev/null >/dev/null 2>&1 & echo $!')
	until_ok gone "$pid" # as all that is of the session
	alive session
}

# Nor of the service.
service() {
	systemd-run --wait --unit=maker sh -c "podbox create service && podbox run -d --name c --rootfs $box service -- sleep 100000"
	alive service
	systemd-run --unit=stays sh -c "podbox create stays && podbox run -d --name c --rootfs $box stays -- sleep 100000 && exec sleep 100000"
	until_ok podbox exec -c c stays -- true
	systemctl stop stays
	alive stays
	# What systemd makes of its cgroups leaves ours as they are.
	systemctl daemon-reload
	systemctl daemon-reexec
	alive service
	alive session
}

# pods makes those that are used further on, if nobody else has made them.
pods() {
	local name
	for name in session service; do
		podbox exists $name || {
			podbox create $name
			podbox run -d --name c --rootfs $box $name -- sleep 100000
		}
	done
}

limits() {
	podbox create --memory 64m --pids-limit 50 limited
	podbox run --rootfs $box limited -- sh -c 'cat /proc/self/cgroup'
	podbox run -d --name c --memory 16m --rootfs $box limited -- sh -c 'sleep 2; dd if=/dev/zero of=/dev/null bs=64M count=1'
	equal "$(podbox wait -c c limited || true)" 137
	podbox ps -a limited | grep 'out of memory'
	podbox rm -f limited
}

runtimes() {
	local runtime
	pods
	for runtime in runc crun; do
		equal "$(podbox run --rm --runtime $runtime --rootfs $box service -- hostname)" service
		podbox run -d --name $runtime --runtime $runtime --rootfs $box service -- sleep 100000
		equal "$(podbox exec -c $runtime service -- hostname)" service
		podbox rm -f -c $runtime service
	done
}

apparmor() {
	pods
	equal "$(cat /sys/module/apparmor/parameters/enabled)" Y
	cat >/etc/apparmor.d/testvm <<-END
		profile testvm flags=(attach_disconnected) {
		  file,
		  network,
		  capability,
		  signal,
		  unix,
		  ptrace,
		  deny /secret r,
		}
	END
	apparmor_parser -r /etc/apparmor.d/testvm
	equal "$(podbox run --rm --rootfs $box service -- cat /secret)" secret
	equal "$(podbox run --rm --rootfs $box --security-opt apparmor=testvm service -- cat /proc/self/attr/current)" 'testvm (enforce)'
	refused podbox run --rm --rootfs $box --security-opt apparmor=testvm service -- cat /secret
	# The program that is executed is not one that podbox has executed itself before.
	podbox run -d --name armored --rootfs $box --security-opt apparmor=testvm service -- sleep 100000
	equal "$(podbox exec -c armored service -- cat /proc/1/attr/current)" 'testvm (enforce)'
	equal "$(podbox exec -c armored service -- cat /proc/self/attr/current)" 'testvm (enforce)'
	podbox rm -f -c armored service
	refused podbox run --rm --rootfs $box --security-opt apparmor=nosuch service -- true
	podbox apply --wait=2m -f - <<-END
		apiVersion: v1
		kind: Pod
		metadata: {name: armor}
		spec:
		  containers:
		  - name: c
		    image: localhost/box:1
		    imagePullPolicy: Never
		    command: [sleep, "100000"]
		    securityContext: {appArmorProfile: {type: Localhost, localhostProfile: testvm}}
	END
	equal "$(podbox exec -c c armor -- cat /proc/1/attr/current)" 'testvm (enforce)'
	podbox rm -f armor
	# Who asks for none has none: neither the program of podbox nor a pod has a profile by itself.
	equal "$(podbox exec service -- cat /proc/self/attr/current)" unconfined
	equal "$(podbox exec -c c service -- cat /proc/1/attr/current)" unconfined
	# What other runtimes confine containers by, in the main: no mounts, no /proc and /sys but to read.
	cat >/etc/apparmor.d/testvm-default <<-END
		#include <tunables/global>
		profile testvm-default flags=(attach_disconnected,mediate_deleted) {
		  #include <abstractions/base>
		  network,
		  capability,
		  file,
		  umount,
		  signal (receive) peer=unconfined,
		  signal (send, receive) peer=testvm-default,
		  ptrace (trace, read, tracedby, readby) peer=testvm-default,
		  deny mount,
		  deny @{PROC}/sys/** wklx,
		  deny @{PROC}/sysrq-trigger rwklx,
		  deny @{PROC}/kcore rwklx,
		  deny /sys/** wklx,
		  deny /sys/kernel/security/** rwklx,
		}
	END
	apparmor_parser -r /etc/apparmor.d/testvm-default
	podbox run -d --init --name usual --rootfs $box --security-opt apparmor=testvm-default service -- sleep 100000
	equal "$(podbox exec -c usual service -- sh -c 'cat /proc/self/attr/current; echo x >/tmp/file && cat /tmp/file && kill -0 1 && echo y')" $'testvm-default (enforce)\nx\ny'
	refused podbox run --rm --privileged --rootfs $box --security-opt apparmor=testvm-default service -- mount -t tmpfs x /tmp
	podbox run --rm --privileged --rootfs $box service -- mount -t tmpfs x /tmp
	# Its signals come through: it has not to be killed in the end.
	timeout 60 podbox stop -t 300 -c usual service
	podbox rm -f -c usual service
	# What was denied was denied to those who are confined.
	dmesg | grep 'apparmor="DENIED"' | grep -v -e 'profile="testvm' -e 'name="nosuch"' >/run/denied || true
	equal "$(cat /run/denied)" ''
}

# The host's own servers, in a pod, with a port of the host.
servers() {
	podbox create -p 8080:80 --volume data web
	podbox run -d --name nginx --rootfs / --read-only --tmpfs /var/log/nginx --tmpfs /var/lib/nginx --tmpfs /run web -- nginx -g 'daemon off;'
	podbox run -d --name redis --restart always --rootfs / --read-only -v data:/mnt web -- redis-server --dir /mnt --appendonly yes
	until_ok curl -sf -o /dev/null http://127.0.0.1:8080/
	until_ok podbox run --rm --rootfs / --read-only web -- redis-cli incr visits
	podbox kill -c redis web
	until_ok podbox run --rm --rootfs / --read-only web -- redis-cli incr visits
}

# What the next boot will find.
prepare() {
	mkdir -p $kept
	pods
	podbox apply --wait=2m -f - <<-END
		apiVersion: v1
		kind: Pod
		metadata: {name: claimant}
		spec:
		  volumes: [{name: v, persistentVolumeClaim: {claimName: kept}}]
		  containers:
		  - name: c
		    image: localhost/box:1
		    imagePullPolicy: Never
		    command: [sh, -c, "echo kept >/data/file; sleep 100000"]
		    volumeMounts: [{name: v, mountPath: /data}]
	END
	until_ok test -s /var/lib/podbox/claims/kept/file
	podbox "${disk[@]}" create --ip-range 10.99.0.0/24 --ip6-range fd99::/64 --volume data old
	podbox "${disk[@]}" run -d --name c --restart always --rootfs $box -v data:/data old -- sleep 100000
	podbox "${disk[@]}" inspect --format '{{.PausePID}}' old >$kept/pids
	podbox "${disk[@]}" inspect -c c --format '{{.PID}}' old >>$kept/pids
	pgrep -f 'podbox.*podbox-disk' >>$kept/pids || true # its supervisor
	podbox "${disk[@]}" inspect --format '{{.IP}}' old >$kept/addresses
	podbox inspect --format '{{.IP}}' session >>$kept/addresses
	podbox generate systemd --files=/etc/systemd/system service
	systemctl daemon-reload
	systemctl enable podbox@service
	ls /var/lib/podbox/pods
	cat /proc/sys/kernel/random/boot_id >$kept/boot
	date +%s >$kept/at
}

# --- after --------------------------------------------------------------------

rebooted() {
	[[ $(cat $kept/boot) != "$(cat /proc/sys/kernel/random/boot_id)" ]]
	# systemd has not waited for anything of ours to end: it gives up after 90 s.
	journalctl -b -1 -o short-monotonic --no-pager | tail -n 40 || true
}

# Pods have ended with the boot, but for the one that comes up by its unit.
forgotten() {
	until_ok alive service
	equal "$(podbox ls --format '{{.Name}}' | sort | xargs)" service
}

# Logs and volumes on the disk of pods that are gone are cleared away; claims stay.
swept() {
	ls /var/lib/podbox/pods
	podbox gc
	equal "$(on_disk)" "$(podbox ls -q | wc -l)"
	equal "$(cat /var/lib/podbox/claims/kept/file)" kept
	podbox gc
	podbox image exists localhost/box:1
	podbox apply --wait=2m -f - <<-END
		apiVersion: v1
		kind: Pod
		metadata: {name: claimant}
		spec:
		  volumes: [{name: v, persistentVolumeClaim: {claimName: kept}}]
		  containers:
		  - {name: c, image: "localhost/box:1", imagePullPolicy: Never, command: [sleep, "100000"], volumeMounts: [{name: v, mountPath: /data}]}
	END
	equal "$(podbox exec -c c claimant -- cat /data/file)" kept
	podbox rm -f claimant
}

# Addresses are free again: all of a small range can be had, those of the former boot too.
addresses() {
	cat $kept/addresses
	local ip
	ip=$(sed -n 2p $kept/addresses)
	if [[ -n $ip ]] && ! podbox ls | grep -wF "$ip"; then
		podbox create --ip "$ip" again
		podbox rm again
	fi
}

# Records on a disk are of another boot, and their PIDs are of strangers, which nothing
# happens to.
disk_records() {
	local pid strangers=() stranger
	sort -n $kept/pids
	while read -r pid; do
		# Somebody has it already, or else we do.
		while gone "$pid"; do
			echo $((pid - 1)) >/proc/sys/kernel/ns_last_pid
			sleep 100000 &
			[[ $! == "$pid" ]] || kill $! # another was faster
		done
		strangers+=("$pid")
	done < <(sort -n $kept/pids)
	equal "$(state old "${disk[@]}")" stopped
	podbox "${disk[@]}" ps -a
	podbox "${disk[@]}" gc
	podbox "${disk[@]}" stop old
	podbox "${disk[@]}" kill old || true
	podbox "${disk[@]}" start old
	podbox "${disk[@]}" ps -a
	until_ok podbox "${disk[@]}" exec -c c old -- true
	equal "$(podbox "${disk[@]}" inspect --format '{{.IP}}' old)" "$(sed -n 1p $kept/addresses)"
	podbox "${disk[@]}" rm -f old
	for stranger in "${strangers[@]}"; do
		kill -0 "$stranger"
	done
	equal "$(podbox "${disk[@]}" ls -q)" ''
	kill "${strangers[@]}" || true
}

# A firewall of the machine: what doctor gives for its cure cures, to the letter, and also when
# the firewall has loaded its rules again.
firewall() {
	ip netns add machine
	ip link add up0 type veth peer name lan0 netns machine
	ip addr add 192.0.2.1/24 dev up0
	ip link set up0 up
	ip -n machine link set lo up
	ip -n machine addr add 192.0.2.2/24 dev lan0
	ip -n machine link set lan0 up
	ip netns exec machine busybox httpd -p 7000 -h $box
	podbox create -p 8080:80 web
	podbox run -d --name c --rootfs $box web -- httpd -f -p 80 -h /
	until_ok ways
	systemctl is-active podbox-network # the unit of the pod has asked for it
	# It flushes all rules, and podbox's are made again.
	systemctl restart nftables
	until_ok ways
	systemctl stop nftables
	nft flush ruleset
	systemctl restart podbox-network
	until_ok ways
	local name
	for name in ufw firewalld; do
		[[ $name != ufw ]] || ufw --force enable
		systemctl start $name
		until_ok in_the_way # firewalld makes its rules after it has said that it runs
		way Detail
		way Cure >/run/cure
		sh -exc "$(cat /run/cure)"
		until_ok ways
		equal "$(way Status)" ok
		case $name in
			ufw) ufw reload ;;
			*) systemctl reload $name ;;
		esac
		until_ok ways
		systemctl restart $name
		until_ok ways
		[[ $name != ufw ]] || ufw --force disable
		systemctl stop $name
		nft flush ruleset
		podbox network reload
		until_ok ways
	done
	podbox rm -f web
	ip link del up0
	ip netns pids machine | xargs kill
	ip netns del machine
}
# ways: from another machine to what a pod publishes, from a pod to another machine, and on the host.
ways() {
	ip netns exec machine curl -sf -m 5 -o /dev/null http://192.0.2.1:8080/secret &&
		podbox exec web -- curl -sf -m 5 -o /dev/null http://192.0.2.2:7000/secret &&
		curl -sf -m 5 -o /dev/null http://127.0.0.1:8080/secret
}
in_the_way() { [[ $(way Status) == warn ]]; }
way() { podbox doctor --format "{{if eq .Name \"way for packets\"}}{{.$1}}{{end}}" | tr -d '\n'; }

# Nothing is left when all has been removed.
empty() {
	podbox rm -f -a
	podbox gc
	refused pgrep -a podbox
	equal "$(on_disk)" 0
	ip -o link >/run/links
	refused grep pbx /run/links
	# Empty groups are removed by the last pod, or stay without anything in them.
	find /sys/fs/cgroup -path '*podbox*' -name cgroup.procs -exec cat {} + >/run/procs
	refused grep . /run/procs
	nft list ruleset
}

# Nor of the package: pods of units end in order, and then there is nothing of it but what the
# administrator has made.
purged() {
	ls /testvm/dist/*.deb || return 0 # it was not installed by a package
	systemctl restart podbox@service
	alive service
	dpkg -r podbox
	refused pgrep -a podbox
	refused systemctl is-active podbox@service podbox-gc.timer podbox-network
	ip -o link >/run/links
	refused grep -E 'pbx|pbs' /run/links
	refused nft list table inet podbox
	rm -r /var/lib/podbox/claims
	dpkg -P podbox
	find / -xdev -name '*podbox*' ! -path '/var/lib/podbox-disk*' ! -path '/etc/systemd/system/*' ! -path '/var/log/*' >/run/left
	ls -d /run/podbox /sys/fs/cgroup/podbox >>/run/left || true
	equal "$(cat /run/left)" ''
}

# --- which of them -------------------------------------------------------------

if [[ -e $kept/at ]]; then
	echo "testvm: up again after $(($(date +%s) - $(cat $kept/at))) s"
	for name in rebooted forgotten firewall swept addresses disk_records empty purged; do check $name; done
	echo 'testvm: done'
	sync
	sleep 1
	systemctl poweroff -ff
else
	echo "testvm: linux $(uname -r), $(systemctl --version | head -n 1), up $(cut -d ' ' -f 1 /proc/uptime) s"
	for name in installed doctor session service limits runtimes apparmor servers prepare; do check $name; done
	if [[ ! -e $kept/at ]]; then
		echo 'testvm: begin full/reboot'
		echo 'testvm: end full/reboot 1 0'
		sync
		systemctl poweroff -ff
	fi
	systemctl reboot
fi
