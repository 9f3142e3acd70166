#!/usr/bin/env bash
#
# Proves what make dist has made for this machine: what is in the packages, that the one
# for Debian can be installed, used, removed and purged without leaving anything, and that
# make install and make uninstall do so too. It does that in a copy of the machine's
# root, an overlay in memory: nothing is installed here.
#
# usage: hack/dist/check.sh       as root, on Debian, after make dist
#
# With lintian installed it asks that as well.

set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
if [[ -z ${PODBOX_ROOM:-} ]]; then
	exec env PODBOX_ROOM=1 unshare --mount --propagation private -- "$PWD/hack/dist/check.sh"
fi

arch=$(go env GOHOSTARCH)
deb=$(ls dist/podbox_*_"$arch".deb)
tarball=$(ls dist/podbox-*-linux-"$arch".tar.gz)
(cd dist && sha256sum --quiet -c SHA256SUMS)

room=$(mktemp -d)
trap 'umount -R "$room" && rmdir "$room"' EXIT
mount -t tmpfs room "$room"
mkdir "$room"/{upper,work,root}
mount -t overlay -o "lowerdir=/,upperdir=$room/upper,workdir=$room/work" room "$room/root"
mount -t proc proc "$room/root/proc"
mount --bind /dev "$room/root/dev"
cp -r dist "$room/root/dist"
inside() { chroot "$room/root" "$@"; }

fail() { echo "FAIL $*" >&2; exit 1; }

# changed lists what differs from the machine, but what dpkg and systemd keep for themselves.
changed() {
	local path
	(cd "$room/upper" && find . ! -type d -printf '/%P\n' -o -type d -empty -printf '/%P\n') |
		{ grep -Ev '^/(dist|tmp|dev|proc|root)(/|$)|^/var/(lib/dpkg|log|cache)/|^/run/systemd/' || true; } |
		while IFS= read -r path; do
			# A directory of the machine in which something was.
			[[ -d $path && -d $room/upper$path ]] || echo "$path"
		done | sort
}

# left lists what differs that did not at first.
left() { comm -13 <(echo "$before") <(changed); }

# Pods of the machine are none of the copy's.
rm -rf "$room"/root/{run/podbox,var/lib/podbox,etc/podbox}
before=$(changed)

# used tries what was installed below a prefix.
used() {
	local page units=$1/lib/systemd/system said
	inside "$1/bin/podbox" version
	inside "$1/bin/podbox" image --help >/dev/null
	inside bash -n "$1/share/bash-completion/completions/podbox"
	said=$(inside systemd-analyze --man=no verify "$units"/{podbox@web.service,podbox-gc.timer,podbox-gc.service,podbox-network.service} 2>&1 |
		grep -i podbox || true)
	[[ -z $said ]] || fail "units: $said"
	grep -q "^ExecStart=$1/bin/podbox " "$room/root$units/podbox@.service" || fail 'the path of podbox in units'
	for page in podbox podbox-create podbox-image-pull podbox-generate-systemd; do
		compgen -G "$room/root$1/share/man/man1/$page.1*" >/dev/null || fail "no page $page"
	done
	[[ $(stat -c %a "$room/root/etc/podbox/pods") == 700 ]] || fail 'the mode of /etc/podbox/pods'
}

echo '--- the .deb'
inside dpkg -i "/$deb" >/dev/null
used /usr
inside dpkg --verify podbox
inside dpkg -r podbox >/dev/null
inside dpkg -i "/$deb" >/dev/null
inside dpkg -P podbox 2>&1 | sed -n '/podbox: /p'
[[ -z $(left) ]] || fail "left after purge: $(left)"

echo '--- the .deb is purged while there are a pod, a volume that outlives pods, a manifest'
inside dpkg -i "/$deb" >/dev/null
mkdir -p "$room"/root/{run/podbox/pods/1234,var/lib/podbox/images,var/lib/podbox/claims/data}
touch "$room/root/etc/podbox/pods/web.yaml"
inside dpkg -r podbox >/dev/null 2>&1
inside dpkg -P podbox >/dev/null 2>&1
[[ -e $room/root/var/lib/podbox/images ]] || fail 'what a pod has was removed'
rm -r "$room/root/run/podbox"
inside dpkg -i "/$deb" >/dev/null
inside dpkg -P podbox >/dev/null 2>&1
[[ $(left) == $'/etc/podbox/pods/web.yaml\n/var/lib/podbox/claims/data' ]] || fail "left: $(left)"
rm -r "$room"/root/{var/lib/podbox,etc/podbox}

echo '--- make install, make uninstall'
PREFIX=/usr/local DESTDIR=$room/root hack/dist/install.sh install bin
used /usr/local
PREFIX=/usr/local DESTDIR=$room/root hack/dist/install.sh install bin
PREFIX=/usr/local DESTDIR=$room/root hack/dist/install.sh uninstall
[[ -z $(left) ]] || fail "left: $(left)"
[[ -z $(find "$room/upper/usr/local" -type f) ]] || fail "left: $(find "$room/upper/usr/local" -type f)"

echo '--- the tarball'
inside tar -C /usr/local --strip-components=1 -xzf "/$tarball"
mkdir -p "$room/root/etc/podbox/pods" && chmod 700 "$room/root/etc/podbox/pods"
used /usr/local

if command -v lintian >/dev/null; then
	echo '--- lintian'
	said=$(lintian --allow-root --fail-on none "$deb")
	[[ -z $said ]] || fail "$said"
fi
echo 'ok   dist'
