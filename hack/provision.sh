#!/bin/bash
# Make a Debian or Ubuntu machine one on which podbox is built and tested: what .ci/run needs,
# and the Go that go.mod names. The Vagrantfile and lima.yaml run it as root.
#
# usage: provision.sh REPOSITORY
set -euo pipefail

repository=${1:?usage: provision.sh REPOSITORY}
[[ -e $repository/go.mod ]] || { echo "provision.sh: there is no go.mod in $repository" >&2; exit 1; }
version=$(awk '$1 == "go" { print $2 }' "$repository/go.mod")
arch=$(dpkg --print-architecture)

export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
apt-get -qq install -y --no-install-recommends ca-certificates curl git make

if [[ $(/usr/local/go/bin/go env GOVERSION 2>/dev/null || true) != "go$version" ]]; then
	tmp=$(mktemp -d)
	trap 'rm -rf "$tmp"' EXIT
	archive=go$version.linux-$arch.tar.gz
	curl -fsSL --retry 3 -o "$tmp/$archive" "https://go.dev/dl/$archive"
	# The file is what its makers say it is.
	sum=$(curl -fsSL --retry 3 'https://go.dev/dl/?mode=json&include=all' |
		awk -F '"' -v file="$archive" '$2 == "filename" && $4 == file { found = 1 } found && $2 == "sha256" { print $4; exit }')
	echo "$sum  $tmp/$archive" | sha256sum --check --quiet
	rm -rf /usr/local/go
	tar -C /usr/local -xzf "$tmp/$archive"
fi
# shellcheck disable=SC2016 # it is a login's that is meant
echo 'PATH=$PATH:/usr/local/go/bin' >/etc/profile.d/podbox-go.sh

# What the tests use, as .ci/run has it: it installs, and downloads Go's modules.
cd "$repository"
.ci/run setup
