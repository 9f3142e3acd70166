#!/bin/sh
# The first program of a guest: finds its disks and goes on from them.
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in virtio_pci virtio_blk virtio_console; do
	modprobe "$module" 2>/dev/null
done

word() { tr ' ' '\n' </proc/cmdline | sed -n "s/^testvm\.$1=//p"; }

# Without disks, nothing was asked but whether this works.
if [ "$(word mode)" = probe ]; then
	echo 'testvm: it boots' >/dev/ttyS0
	poweroff -f
fi

# disk SERIAL DIR OPTIONS
disk() {
	tries=0
	while [ $tries -lt 300 ]; do
		for block in /sys/block/vd*; do
			[ -e "$block/serial" ] || continue
			if [ "$(cat "$block/serial")" = "$1" ]; then
				mount -t ext4 -o "$3" "/dev/${block##*/}" "$2" && return
			fi
		done
		tries=$((tries + 1))
		sleep 0.1
	done
	echo "testvm: there is no disk $1"
	poweroff -f
}
disk root /new rw
disk modules /new/lib/modules ro
disk payload /new/testvm ro
init=/testvm/guest/bare.sh
if [ "$(word mode)" = full ]; then init=/sbin/init; fi
umount /proc /sys
mount --move /dev /new/dev
exec switch_root /new "$init"
