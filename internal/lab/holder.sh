# shellcheck shell=sh
# Makes the namespaces it was started in into a host, says "ready" and then only
# keeps them alive. $1 is the host name; $2 is 1 where IPv6 is not wanted at all.
set -eu

# shadow gives directory $1 a writable top of its own, in which every entry
# leads to the real one and "plexus" is an empty directory.
shadow() {
	under=/run/lab$1
	mkdir -p "$under"
	mount --rbind "$1" "$under"
	mount -t tmpfs -o mode=0755 tmpfs "$1"
	find "$under" -mindepth 1 -maxdepth 1 ! -name plexus -exec ln -s -t "$1" {} +
	mkdir -m 0755 "$1/plexus"
}

echo "$1" >/proc/sys/kernel/hostname
mount -t sysfs sysfs /sys
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs -o mode=0755 tmpfs /run
shadow /etc
shadow /var/lib
if [ -d /proc/sys/net/ipv6 ]; then
	echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad # addresses work at once
	echo "$2" >/proc/sys/net/ipv6/conf/default/disable_ipv6
fi
[ -c /dev/net/tun ] || { echo "/dev/net/tun is missing: load the tun module" >&2; exit 1; }
echo ready
exec sleep infinity >/dev/null 2>&1
