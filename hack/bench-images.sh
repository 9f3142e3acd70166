#!/usr/bin/env bash
#
# Measures how images come in, and how containers start on them, beside podman and umoci
# on this machine, all in one run, and prints a report in Markdown.
#
# usage: [ROWS=REGEX] [RUNS=N] hack/bench-images.sh [--out FILE]
#
#   load    an image of 10 layers and 500 MB: podbox image load of an archive of docker
#           save and of OCI, podman load of the same, umoci unpack of the OCI layout
#   start   podbox run --rm --image, against --rootfs of the same files
#
# ROWS chooses among these (all). RUNS is the number of runs of a load (5); of a start
# there are 20 times as many.
#
# It needs root, hyperfine, GNU time, python3, umoci, skopeo, podman, busybox, and
# bin/podbox and bin/podbox-kube (make build). What it makes is in one directory of
# TMPDIR (/tmp), 3 GB at most, on whose filesystem it measures, and is removed; pods are
# in network and mount namespaces of its own.

set -euo pipefail

hack=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
binary=${PODBOX:-$(dirname "$hack")/bin/podbox}
runs=${RUNS:-5}
rows=${ROWS:-.}

fail() {
	echo "bench-images: $*" >&2
	exit 1
}
note() { echo "bench-images: $*" >&2; }

out=''
while (($# > 0)); do
	case $1 in
	--out)
		(($# > 1)) || fail '--out needs a value'
		out=$2
		shift
		;;
	-h | --help)
		while read -r line && [[ $line == '#'* ]]; do echo "${line#\#}"; done < <(tail -n +2 "$0")
		exit 0
		;;
	*) fail "unknown option $1 (see --help)" ;;
	esac
	shift
done

if [[ -z ${BENCH_IMAGES:-} ]]; then
	((EUID == 0)) || fail 'needs root'
	for tool in hyperfine python3 umoci skopeo podman busybox; do
		command -v "$tool" >/dev/null || fail "$tool is not installed"
	done
	[[ -x /usr/bin/time ]] || fail '/usr/bin/time is not installed (Debian: apt-get install time)'
	[[ -x $binary ]] || fail "$binary is not there (make build)"
	[[ -z $out ]] || exec > >(tee "$out")
	BENCH_IMAGES=$(mktemp -d "${TMPDIR:-/tmp}/benchi.XXXXXX")
	export BENCH_IMAGES
	status=0
	unshare --net --mount --propagation private -- "$0" || status=$?
	rm -rf "$BENCH_IMAGES"
	exit "$status"
fi

tmp=$BENCH_IMAGES
cd "$tmp"
podbox=("$binary" --root "$tmp/run" --state-dir "$tmp/state")
podman=(podman --root "$tmp/podman" --runroot "$tmp/podman-run" --storage-driver overlay)

cleanup() {
	local status=$?
	trap - EXIT
	"${podbox[@]}" rm -f bench >/dev/null 2>&1 || true
	"${podbox[@]}" gc >/dev/null 2>&1 || true
	exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT TERM HUP

wants() { [[ $1 =~ $rows ]]; }

# make_image makes the image: ten layers of 50 MB each, in some 300 files of 2 kB to
# 1 MB, that compress to three quarters, and its archives.
make_image() {
	note 'making the image'
	python3 - <<-'EOF'
		import os, random
		random.seed(1)
		words = [random.randbytes(24) for _ in range(700)]
		def content(n):
		    out = bytearray()
		    while len(out) < n:
		        out += random.randbytes(512)
		        for _ in range(22):
		            out += words[random.randrange(700)]
		    return bytes(out[:n])
		for layer in range(10):
		    left, i = 50 << 20, 0
		    while left > 0:
		        n = min(left, random.choice([2000, 8000, 8000, 20000, 60000, 60000, 200000, 1 << 20]))
		        d = f"layers/{layer}/usr/share/{layer}/{i // 100}"
		        os.makedirs(d, exist_ok=True)
		        open(f"{d}/{i}", "wb").write(content(n))
		        left, i = left - n, i + 1
	EOF
	umoci init --layout oci >/dev/null 2>&1
	umoci new --image oci:bench >/dev/null 2>&1
	local layer
	for layer in layers/*; do umoci insert --image oci:bench "$layer" / >/dev/null 2>&1; done
	rm -rf layers
	skopeo copy -q oci:oci:bench docker-archive:docker.tar:bench:latest
	skopeo copy -q oci:oci:bench oci-archive:oci.tar:bench
	sync -f .
}

# measure NAME PREPARE COMMAND prints a row of a table.
measure() {
	local memory
	eval "$2"
	memory=$(/usr/bin/time -f %M bash -c "exec $3" 2>&1 >/dev/null | tail -n 1)
	hyperfine --runs "$runs" --prepare "$2" --export-json result.json "$3" >/dev/null
	python3 - "$1" "$memory" <<-'EOF'
		import json, sys
		r = json.load(open("result.json"))["results"][0]
		print(f"| {sys.argv[1]} | {len(r['times'])} | {r['median']:.2f} | {r['min']:.2f} | {r['max']:.2f} | {int(sys.argv[2]) / 1024:.0f} |")
	EOF
}

echo "# Images beside podman and umoci"
echo
echo "$(date -u +%F), Linux $(uname -r), $(nproc) CPUs, $(df --output=fstype . | tail -n 1), $("$binary" version | head -n 1); $(podman --version), $(umoci --version | head -n 1)."
echo "Command: \`${ROWS:+ROWS=$ROWS }${RUNS:+RUNS=$RUNS }hack/bench-images.sh\`."

if wants load; then
	make_image
	echo
	echo '## Load and unpack, 10 layers of 50 MB'
	echo
	echo '| | runs | median, s | min | max | memory, MB |'
	echo '| --- | ---: | ---: | ---: | ---: | ---: |'
	clean_podbox="rm -rf $tmp/state/images; sync -f $tmp"
	clean_podman="${podman[*]} rmi -af >/dev/null 2>&1; rm -rf $tmp/podman $tmp/podman-run; sync -f $tmp"
	measure 'podbox image load, docker save' "$clean_podbox" "${podbox[*]} image load -i docker.tar"
	measure 'podman load, docker save' "$clean_podman" "${podman[*]} load -q -i docker.tar"
	measure 'podbox image load, OCI, gzip' "$clean_podbox" "${podbox[*]} image load -i oci.tar"
	measure 'podman load, OCI, gzip' "$clean_podman" "${podman[*]} load -q -i oci.tar"
	measure 'umoci unpack, OCI, gzip' "rm -rf $tmp/bundle; sync -f $tmp" 'umoci unpack --image oci:bench bundle'
	rm -rf bundle podman podman-run
	echo
	echo "A store, or a bundle, is made anew each time. podbox has the image on the disk when it is done (syncfs(2)); the others do not wait for that."
fi

if wants start; then
	note 'starting containers'
	mkdir -p root/bin root/dev root/proc root/sys root/etc root/tmp
	cp "$(command -v busybox)" root/bin/busybox
	ln -s busybox root/bin/true
	touch root/etc/hosts root/etc/hostname root/etc/resolv.conf
	mkdir root/usr
	"${podbox[@]}" image import root start >/dev/null
	"${podbox[@]}" create bench >/dev/null
	hyperfine -N --warmup 10 --runs $((20 * runs)) --export-json result.json \
		"${podbox[*]} run --rm --rootfs $tmp/root bench -- /bin/true" \
		"${podbox[*]} run --rm --image start bench -- /bin/true" >/dev/null
	echo
	echo '## Start, podbox run --rm … /bin/true'
	echo
	echo '| | runs | median, ms | min | max | |'
	echo '| --- | ---: | ---: | ---: | ---: | --- |'
	python3 - <<-'EOF'
		import json
		a, b = json.load(open("result.json"))["results"]
		for name, r in (("--rootfs", a), ("--image", b)):
		    ratio = f"{r['median'] / a['median']:.2f} ×" if r is b else ""
		    print(f"| {name} | {len(r['times'])} | {1000 * r['median']:.2f} | {1000 * r['min']:.2f} | {1000 * r['max']:.2f} | {ratio} |")
	EOF
fi
