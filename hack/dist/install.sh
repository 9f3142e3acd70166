#!/usr/bin/env bash
#
# Installs podbox, and removes it again: exactly what was installed, which is noted in
# PREFIX/share/podbox/installed, directories that were not there before among it. What pods have, below /var/lib/podbox, and manifests
# in /etc/podbox/pods stay.
#
# usage: hack/dist/install.sh install PROGRAMS | uninstall
#
# PREFIX is /usr/local by default; DESTDIR is put before all paths.

set -euo pipefail

export LC_ALL=C
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

# missing LIST prints the directories, with a slash at their end, that files are to be in
# and that are not there.
missing() {
	local path dir
	while IFS= read -r path; do
		dir=${path%/*}
		while [[ -n $dir && ! -d $dest$dir ]]; do
			echo "$dir/"
			dir=${dir%/*}
		done
	done <"$1" | sort -u
}

# forget LIST removes files, and directories if nothing else is in them.
forget() {
	local path
	sort -r "$1" | while IFS= read -r path; do
		case $path in
		/*/) rmdir -- "$dest$path" 2>/dev/null || true ;;
		/*) rm -f -- "$dest$path" ;;
		esac
	done
}

case ${1:-} in
install)
	tree=$(mktemp -d)
	trap 'rm -rf "$tree"' EXIT
	"$(dirname "${BASH_SOURCE[0]}")/stage.sh" "${2:?}" "$prefix" "$tree/new"
	(cd "$tree/new" && find . ! -type d -printf '/%P\n' | sort) >"$tree/files"
	echo "${note#"$dest"}" >"$tree/note"
	touch "$tree/before"
	[[ ! -e $note ]] || sort "$note" >"$tree/before"
	# Directories that it has made before are its own still.
	{ cat "$tree/files" "$tree/note"; grep '/$' "$tree/before" || true; missing <(cat "$tree/files" "$tree/note"); } | sort -u >"$tree/installed"
	# First what may be there if this is cut short, then the files, then what is there.
	sort -u "$tree/before" "$tree/installed" >"$tree/both"
	put "$tree/both" "$note"
	while IFS= read -r path; do put "$tree/new$path" "$dest$path"; done <"$tree/files"
	comm -23 "$tree/before" "$tree/installed" >"$tree/gone"
	forget "$tree/gone"
	put "$tree/installed" "$note"
	install -d -m 0700 "$dest/etc/podbox" "$dest/etc/podbox/pods"
	reload
	;;
uninstall)
	[[ -e $note ]] || { echo "$note: not there: nothing was installed with this PREFIX" >&2; exit 1; }
	list=$(mktemp)
	trap 'rm -f "$list"' EXIT
	cp "$note" "$list"
	forget "$list"
	rmdir -- "$dest/etc/podbox/pods" "$dest/etc/podbox" 2>/dev/null || true # unless something is in it
	reload
	;;
*)
	sed -n '3,/^$/s/^# \?//p' "${BASH_SOURCE[0]}" >&2
	exit 2
	;;
esac
