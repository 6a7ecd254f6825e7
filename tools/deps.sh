#!/usr/bin/env bash
# Installs the Debian packages that are missing, and touches nothing when none is.
# Usage: deps.sh run|test|vm   (run: what hosts and the demo need; test: everything
# but virtual machines; vm: those)
set -euo pipefail

# Each line: a command or header that must exist, and the package that has it.
run_needs='
ip iproute2
tc iproute2
nsenter util-linux
unshare util-linux
ping iputils-ping
tcpdump tcpdump
curl curl
python3 python3
'
test_needs='
git git
gcc gcc
/usr/include/stdlib.h libc6-dev
shellcheck shellcheck
iperf3 iperf3
wg wireguard-tools
nc netcat-openbsd
nft nftables
systemd-analyze systemd
'
# Virtual machines: an emulator, and what makes their images of Debian's packages.
vm_needs='
qemu-system-x86_64 qemu-system-x86
mmdebstrap mmdebstrap
depmod kmod
/usr/share/keyrings/debian-archive-trixie-automatic.gpg debian-archive-keyring
'
# Only "make generate" needs these; releases without them still build and test.
generate_needs='
clang-19 clang-19
llvm-strip-19 llvm-19
'

have() {
	case $1 in
	/*) [ -e "$1" ] ;;
	*) command -v "$1" >/dev/null || [ -x "/usr/sbin/$1" ] || [ -x "/sbin/$1" ] ;;
	esac
}

missing() {
	while read -r what package; do
		[ -z "$what" ] || have "$what" || echo "$package"
	done <<<"$1" | sort -u
}

install() {
	if ! command -v apt-get >/dev/null; then
		echo "missing: $*. This is not Debian or Ubuntu: install what provides them, then run again." >&2
		return 1
	fi
	if [ "$(id -u)" != 0 ]; then
		echo "missing: $*. Run as root, or first: sudo apt-get install $*" >&2
		return 1
	fi
	DEBIAN_FRONTEND=noninteractive apt-get -y -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300 \
		install --no-install-recommends "$@" </dev/null
}

refresh() {
	if [ -z "${refreshed:-}" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
		refreshed=1
		# One broken third-party source must not stop us; a package that is not found will.
		apt-get -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300 update </dev/null || true
	fi
}

require() {
	local packages
	mapfile -t packages < <(missing "$1")
	if [ "${#packages[@]}" -gt 0 ]; then
		refresh
		install "${packages[@]}"
	fi
}

case ${1:-} in
run) require "$run_needs" ;;
test)
	require "$run_needs$test_needs"
	if [ -n "$(missing "$generate_needs")" ]; then
		require "$generate_needs" ||
			echo "without clang-19 the generated code cannot be checked against its source" >&2
	fi
	;;
vm) require "$vm_needs" ;;
*)
	echo "usage: deps.sh run|test|vm" >&2
	exit 2
	;;
esac
