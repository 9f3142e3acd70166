#!/bin/sh
# Make what qemu boots of a root directory with a kernel's package: kernel.sh ROOT OUT.
# OUT has the program init already. It makes vmlinuz, initrd, which finds the disks, and
# modules.ext4.
set -eu
root=$1 out=$2

version=$(ls "$root/lib/modules")
cp "$root/boot/vmlinuz-$version" "$out/vmlinuz"
depmod -b "$root" "$version"
mke2fs -q -t ext4 -d "$root/lib/modules" "$out/modules.ext4" 400M

tmp=$out/initrd.d
mkdir -p "$tmp/bin" "$tmp/proc" "$tmp/sys" "$tmp/dev" "$tmp/new" "$tmp/lib/modules/$version"
cp "$root/bin/busybox" "$tmp/bin/"
cp "$out/init" "$tmp/init"
ln -s busybox "$tmp/bin/sh"
for module in virtio_pci virtio_blk virtio_console; do
	grep -E "/$module\.ko[.a-z]*:" "$root/lib/modules/$version/modules.dep" || true # else it is in the kernel
done | sed 's/: */ /' | xargs -n 1 | sort -u | while read -r file; do
	[ -n "$file" ] || continue
	mkdir -p "$tmp/lib/modules/$version/$(dirname "$file")"
	cp "$root/lib/modules/$version/$file" "$tmp/lib/modules/$version/$file"
	case $file in *.xz) xz -d "$tmp/lib/modules/$version/$file" ;; *.zst) zstd -q --rm -d "$tmp/lib/modules/$version/$file" ;; esac
done
cp "$root/lib/modules/$version"/modules.order "$root/lib/modules/$version"/modules.builtin* "$tmp/lib/modules/$version/"
depmod -b "$tmp" "$version"
(cd "$tmp" && find . | cpio -o -H newc --quiet) | gzip -1 >"$out/initrd"
chmod a+r "$out/vmlinuz"
rm -rf "$tmp" "$out/init" "$out/script" "$out"/keyring*
