#!/usr/bin/env bash
#
# Makes packages for Debian and its like, packages for Fedora and its like, and
# tarballs, for each architecture, with their sums, in dist/. The same commit gives the
# same bytes, with the same Go, whenever and wherever it is built.
#
# usage: hack/dist/dist.sh
#
# ARCHES are the architectures (amd64 arm64), VERSION is that of git describe. Needs Go
# and git, gzip and tar of GNU.

set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export LC_ALL=C TZ=UTC
umask 022

version=${VERSION:-$(git describe --tags --match 'v*' --always --dirty)}
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH
read -ra arches <<<"${ARCHES:-amd64 arm64}"
host=$(go env GOHOSTARCH)

# What packages are ordered by: 1.2.3, 1.2.3+4.gabc of the fourth commit after that, and
# before any release 0.0.0~20261126.abc.
case $version in
v*-*-g*) package=${version#v} package=${package/-/+} package=${package//-/.} ;;
v*) package=${version#v} package=${package//-/\~} ;;
*) package=0.0.0~$(date -d "@$SOURCE_DATE_EPOCH" +%Y%m%d).${version//-/.} ;;
esac

out=$PWD/dist
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
rm -rf "$out"
mkdir "$out"

# build ARCH builds the programs.
build() {
	CGO_ENABLED=0 GOOS=linux GOARCH=$1 go build -buildvcs=true -trimpath \
		-ldflags "-s -w -buildid= -X github.com/podbox/podbox/cmd/internal/release.version=$version" -o "$work/bin-$1/" ./cmd/...
}

# licences prints those of all modules that are linked.
licences() {
	local path at dir file
	echo 'podbox is linked with these modules. Their licences follow.'
	echo
	{ for arch in "${arches[@]}"; do
		CGO_ENABLED=0 GOOS=linux GOARCH=$arch go list -deps -f '{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}} {{.Dir}}{{end}}{{end}}' ./cmd/...
	done; } | sort -u >"$work/modules"
	echo "go $(go env GOVERSION) $(go env GOROOT)" >>"$work/modules"
	cut -d' ' -f1,2 "$work/modules"
	while read -r path at dir; do
		for file in "$dir"/LICEN[SC]E* "$dir"/COPYING* "$dir"/NOTICE*; do
			[[ -f $file ]] || continue
			printf '\n======== %s %s: %s\n\n' "$path" "$at" "${file##*/}"
			cat "$file"
		done
	done <"$work/modules"
}

# docs DIR lays out what there is to read.
docs() {
	install -d "$1"
	install -m 0644 README.md SECURITY.md CHANGELOG.md "$1"
	install -D -m 0644 -t "$1/docs" docs/*.md
	install -m 0644 "$work/licences" "$1/THIRD-PARTY-LICENSES"
}

# date TREE gives all in it the commit's date.
date_all() { find "$1" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +; }

# tarball ARCH makes one to be unpacked in /usr/local: --strip-components=1.
tarball() {
	local name=podbox-${version#v}-linux-$1
	NATIVE=$work/bin-$host hack/dist/stage.sh "$work/bin-$1" /usr/local "$work/tar/stage"
	mv "$work/tar/stage/usr/local" "$work/tar/$name"
	docs "$work/tar/$name/share/doc/podbox"
	install -m 0644 LICENSE "$work/tar/$name/share/doc/podbox"
	date_all "$work/tar/$name"
	tar -C "$work/tar" --sort=name --owner=0 --group=0 --numeric-owner --format=gnu -cf - "$name" | gzip -9n >"$out/$name.tar.gz"
	rm -rf "$work/tar"
}

# compress DIR... compresses what packages have compressed.
compress() { find "$@" -type f -size +3k -exec gzip -9n {} +; }

# tree ARCH KIND lays out what a package has.
tree() {
	local t=$work/$2-$1 doc=$work/$2-$1/usr/share/doc/podbox
	if [[ $2 == deb ]]; then export ZSH=zsh/vendor-completions; else unset ZSH; fi
	NATIVE=$work/bin-$host hack/dist/stage.sh "$work/bin-$1" /usr "$t"
	find "$t/usr/share/man" -type f -exec gzip -9n {} +
	docs "$doc"
	if [[ $2 == deb ]]; then
		mv "$doc/CHANGELOG.md" "$doc/NEWS"
		# Debian's own form, of which there is nothing to say.
		printf 'podbox (%s) unstable; urgency=medium\n\n  * Version %s: see NEWS.gz.\n\n -- %s  %s\n' "$package" "$version" \
			"$(sed -n 's/^maintainer: //p' hack/dist/nfpm.yaml)" "$(date -Rud "@$SOURCE_DATE_EPOCH")" >"$doc/changelog"
		compress "$doc"
		[[ ! -e $doc/changelog ]] || gzip -9n "$doc/changelog"
		install -m 0644 hack/dist/deb/copyright "$doc/copyright"
		install -D -m 0644 hack/dist/deb/lintian-overrides "$t/usr/share/lintian/overrides/podbox"
	else
		install -D -m 0644 -t "$t/usr/share/licenses/podbox" LICENSE
	fi
	date_all "$t"
}

# package ARCH KIND
package() {
	local t=$work/$2-$1 mode path
	tree "$1" "$2"
	{
		sed "s|@ARCH@|$1|; s|@VERSION@|$package|; s|@HERE@|$PWD/hack/dist|" hack/dist/nfpm.yaml
		echo 'contents:'
		echo '- {dst: /etc/podbox, type: dir, file_info: {mode: 0700}}'
		echo '- {dst: /etc/podbox/pods, type: dir, file_info: {mode: 0700}}'
		find "$t" -type f -printf '%m /%P\n' | sort -k2 | while read -r mode path; do
			echo "- {src: '$t$path', dst: '$path', file_info: {mode: 0$mode}}"
		done
		find "$t" -type l -printf '%l /%P\n' | sort -k2 | while read -r to path; do
			echo "- {src: '$to', dst: '$path', type: symlink}"
		done
	} >"$work/nfpm.yaml"
	go -C hack/dist tool nfpm package --config "$work/nfpm.yaml" --packager "$2" --target "$out/" >"$work/log" || { cat "$work/log" >&2; return 1; }
}

build "$host"
licences >"$work/licences"
for arch in "${arches[@]}"; do
	[[ $arch == "$host" ]] || build "$arch"
	tarball "$arch"
	for kind in deb rpm; do package "$arch" "$kind"; done
done
(cd "$out" && sha256sum -- * >SHA256SUMS)
ls -l "$out"
