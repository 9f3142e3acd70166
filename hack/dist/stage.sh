#!/usr/bin/env bash
#
# Lays out an installation of podbox below a directory: programs, manual pages,
# completions, units of systemd. make install and make dist begin with that.
#
# usage: hack/dist/stage.sh PROGRAMS PREFIX TREE
#
# PROGRAMS has podbox and podbox-kube; NATIVE, if they are for another machine, those
# that run on this one. ZSH is where zsh looks, below PREFIX.

set -euo pipefail

(($# == 3)) || { sed -n '3,/^$/s/^# \?//p' "${BASH_SOURCE[0]}" >&2; exit 2; }
programs=$(realpath "$1") prefix=$2
mkdir -p "$3"
tree=$(realpath "$3")
native=$(realpath "${NATIVE:-$programs}")
cd "$(dirname "${BASH_SOURCE[0]}")"

share=$tree$prefix/share
install -D -m 0755 -t "$tree$prefix/bin" "$programs/podbox" "$programs/podbox-kube"

"$native/podbox" manual "$share/man/man1"
echo '.so man1/podbox.1' >"$share/man/man1/podbox-kube.1"
chmod 0644 "$share"/man/man1/*

# complete SHELL FILE
complete() {
	install -d "$(dirname "$2")"
	"$native/podbox" completion "$1" >"$2"
	chmod 0644 "$2"
}
complete bash "$share/bash-completion/completions/podbox"
complete fish "$share/fish/vendor_completions.d/podbox.fish"
complete zsh "$share/${ZSH:-zsh/site-functions}/_podbox"

units=$tree$prefix/lib/systemd/system
install -d "$units/timers.target.wants"
for unit in systemd/*.service systemd/*.timer; do
	sed "s|@BINDIR@|$prefix/bin|" "$unit" >"$units/${unit##*/}"
done
# What it does is done on each machine. systemctl mask keeps it from one.
ln -s ../podbox-gc.timer "$units/timers.target.wants/"
install -D -m 0644 systemd/podbox.tmpfiles "$tree$prefix/lib/tmpfiles.d/podbox.conf"

# Manifests may have secrets in them.
install -d -m 0700 "$tree/etc/podbox/pods"
