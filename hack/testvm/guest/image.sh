#!/bin/sh
# Make an image of a root directory that is a whole Debian: image.sh ROOT OUT.
set -eu
root=$1 out=$2

echo testvm >"$root/etc/hostname"
printf '127.0.0.1 localhost testvm\n::1 localhost\n' >"$root/etc/hosts"
rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* "$root"/usr/share/doc "$root"/usr/share/man "$root"/usr/share/locale
mkdir -p "$root/testvm" "$root/lib/modules"

# Servers are there for pods, not to run by themselves.
chroot "$root" systemctl -q disable nginx redis-server docker-registry ssh ufw firewalld 2>/dev/null || true
# Nobody logs in there.
chroot "$root" systemctl -q mask serial-getty@ttyS0.service
# What is checked on the whole Debian begins when it has come up.
cat >"$root/etc/systemd/system/testvm.service" <<'END'
[Unit]
Description=checks of podbox
After=multi-user.target
[Service]
Type=oneshot
TimeoutStartSec=infinity
ExecStart=/testvm/guest/full.sh
StandardOutput=null
StandardError=journal
[Install]
WantedBy=graphical.target
END
chroot "$root" systemctl -q enable testvm.service
ln -sf /lib/systemd/system/graphical.target "$root/etc/systemd/system/default.target"

# What mmdebstrap has mounted in it is not to be copied.
# shellcheck disable=SC2016 # the inner shell's
unshare --mount sh -euc 'for dir in proc sys dev; do umount -qR "$1/$dir" || true; done; mke2fs -q -t ext4 -d "$1" "$2/root.ext4" 3G' sh "$root" "$out"
rm "$out/init" "$out/script"
