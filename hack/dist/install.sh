#!/usr/bin/env bash
#
# Installs podbox, and removes it again: exactly what was installed, which is noted in
# PREFIX/share/podbox/installed. What pods have, below /var/lib/podbox, and manifests
# in /etc/podbox/pods stay.
#
# usage: hack/dist/install.sh install PROGRAMS | uninstall
#
# PREFIX is /usr/local by default; DESTDIR is put before all paths.

set -euo pipefail

prefix=${PREFIX:-/usr/local} dest=${DESTDIR:-}
note=$dest$prefix/share/podbox/installed

# reload has systemd look at its units again, if it runs and they are its own.
reload() { if [[ -z $dest && -d /run/systemd/system ]]; then systemctl daemon-reload; fi; }

# put FROM TO copies a file or a link, whole. Whatever runs has the file that it was started
# from.
put() {
	mkdir -p "${2%/*}"
	cp -P --remove-destination --preserve=mode "$1" "$2.new"
	mv -fT "$2.new" "$2"
}

# forget LIST removes files, and the directories that are empty then and are nobody
# else's.
forget() {
	local path dir
	while IFS= read -r path; do
		[[ $path == /* ]] || continue
		rm -f -- "$dest$path"
		dir=${path%/*}
		while [[ $dir == "$prefix"/share/* || $dir == "$prefix"/lib/* ]] && rmdir -- "$dest$dir" 2>/dev/null; do dir=${dir%/*}; done
	done <"$1"
}

case ${1:-} in
install)
	tree=$(mktemp -d)
	trap 'rm -rf "$tree"' EXIT
	"$(dirname "${BASH_SOURCE[0]}")/stage.sh" "${2:?}" "$prefix" "$tree/new"
	(cd "$tree/new" && find . ! -type d -printf '/%P\n' | sort) >"$tree/installed"
	touch "$tree/before"
	[[ ! -e $note ]] || sort "$note" >"$tree/before"
	# First what may be there if this is cut short, then the files, then what is there.
	sort -u "$tree/before" "$tree/installed" >"$tree/both"
	put "$tree/both" "$note"
	while IFS= read -r path; do put "$tree/new$path" "$dest$path"; done <"$tree/installed"
	comm -23 "$tree/before" "$tree/installed" >"$tree/gone"
	forget "$tree/gone"
	put "$tree/installed" "$note"
	install -d -m 0700 "$dest/etc/podbox" "$dest/etc/podbox/pods"
	reload
	;;
uninstall)
	[[ -e $note ]] || { echo "$note: not there: nothing was installed with this PREFIX" >&2; exit 1; }
	forget "$note"
	rm -f -- "$note"
	rmdir -- "$dest$prefix/share/podbox"
	rmdir -- "$dest/etc/podbox/pods" "$dest/etc/podbox" 2>/dev/null || true # unless something is in it
	reload
	;;
*)
	sed -n '3,/^$/s/^# \?//p' "${BASH_SOURCE[0]}" >&2
	exit 2
	;;
esac
