#!/bin/sh
# Build the small C program of a package, which is called as its directory is, for both
# architectures next to its source, or for those named into another directory:
#
#	build-c.sh PACKAGE [DIR [ARCH...]]
#
# CC_AMD64 and CC_ARM64 name other compilers, for example
# CC_ARM64='clang --target=aarch64-linux-gnu'. The same compiler and linker
# always give the same bytes; another version may give others, which is why the
# tests judge the binaries by what they do.
set -eu

[ $# -gt 0 ] || { echo 'usage: build-c.sh PACKAGE [DIR [ARCH...]]' >&2; exit 2; }
package=$(cd "$1" && pwd)
shift
program=${package##*/}
source=$package/$program.c
dir=${1:-$package}
[ $# -gt 0 ] && shift
[ $# -gt 0 ] || set -- amd64 arm64

amd64=x86_64-linux-gnu-gcc
arm64=aarch64-linux-gnu-gcc
case $(uname -m) in
x86_64) amd64=cc ;;
aarch64) arm64=cc ;;
esac

# One read-only executable segment and no other: nothing to relocate, nothing
# writable, nothing that names the machine that built it.
for arch; do
	case $arch in
	amd64) cc=${CC_AMD64:-$amd64} flags=-fcf-protection=none ;;
	arm64) cc=${CC_ARM64:-$arm64} flags=-mno-outline-atomics ;;
	*) echo "build-c.sh: unknown architecture $arch" >&2; exit 2 ;;
	esac
	# $cc and $flags may be several words.
	LC_ALL=C $cc $flags -std=gnu11 -Os -Wall -Wextra -Werror -ffreestanding \
		-fno-stack-protector -fno-asynchronous-unwind-tables \
		-fno-unwind-tables -fno-ident -fno-pie -fomit-frame-pointer \
		-nostdlib -static -no-pie -s \
		-Wl,-n -Wl,-z,noseparate-code -Wl,-z,noexecstack \
		-Wl,--build-id=none \
		-o "$dir/${program}_linux_$arch" "$source"
done
