# shellcheck shell=bash
# How the demo speaks and checks. Sourced by run.sh.

lab=${PLEXUS_DEMO_LAB:-demo} # several demos on one machine need several names
work=                        # logs and captures, while the demo runs

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
	bold=$'\e[1m' blue=$'\e[34m' green=$'\e[32m' red=$'\e[31m' plain=$'\e[0m'
else
	bold='' blue='' green='' red='' plain=''
fi

step=0
title() {
	step=$((step + 1))
	printf '\n%s%d. %s%s\n' "$bold" "$step" "$1" "$plain"
}

say() { printf '   %s\n' "$@"; }
indent() { sed 's/^/     /'; }
ok() { printf '   %sok%s  %s\n' "$green" "$plain" "$1"; }

fail() {
	printf '   %sFAILED%s  %s\n' "$red" "$plain" "$1" >&2
	exit 1
}

# on HOST COMMAND... runs a command on a host.
on() {
	local host=$1
	shift
	plexus-lab exec "$lab" "$host" "$@"
}

# show HOST COMMAND... prints the command, runs it and prints what it says.
show() {
	local host=$1
	shift
	printf '   %s%s# %s%s\n' "$blue" "$host" "$*" "$plain"
	on "$host" "$@" 2>&1 | indent
}

# eventually SECONDS COMMAND... repeats a command until it succeeds.
eventually() {
	local until=$((SECONDS + $1))
	shift
	until "$@"; do
		((SECONDS < until)) || return 1
		sleep 0.1
	done
}

# field HOST PATH prints one field of the host's status, as node.meshIPv4.
field() {
	on "$1" plexus status -o json | python3 -c '
import functools, json, sys
print(functools.reduce(lambda v, k: v[k], sys.argv[1].split("."), json.load(sys.stdin)))' "$2"
}

# daemon HOST starts plexusd and notes its process id in pid[HOST].
declare -A pid
daemon() { # not by way of on, here and below: $! would be a shell's
	plexus-lab exec "$lab" "$1" plexusd >>"$work/$1.log" 2>&1 </dev/null &
	# shellcheck disable=SC2034 # run.sh reads it
	pid[$1]=$!
}

talk="python3 $PWD/test/demo/talk.py"

# ask HOST tcp|udp ADDRESS PORT TEXT prints the command and makes one exchange.
# It returns 3 when nothing comes back.
ask() {
	local host=$1
	shift
	printf '   %s%s# talk %s%s\n' "$blue" "$host" "$*" "$plain"
	# shellcheck disable=SC2086 # two words
	on "$host" $talk ask "$@" >"$work/answer" 2>&1
}

answered() {
	local what=$1
	shift
	ask "$@" || fail "$what: $(cat "$work/answer")"
	ok "$what"
}

# silent wants packets to vanish; a service that refuses or is down is no proof.
silent() {
	local what=$1 status=0
	shift
	ask "$@" || status=$?
	[ "$status" = 3 ] || fail "$what: wanted no answer, got: $(cat "$work/answer")"
	ok "$what"
}

# because TEXT OBSERVE-FLAGS... shows the newest matching flow of host-2 and
# wants TEXT in it.
because() {
	local text=$1
	shift
	printf '   %shost-2# plexus observe --last 1 %s%s\n' "$blue" "$*" "$plain"
	eventually 5 seen "$text" "$@" || fail "the flow should say: $text. It is: $(cat "$work/flow")"
	indent <"$work/flow"
	ok "the reason given is: $text"
}

seen() {
	local text=$1
	shift
	on host-2 plexus observe --last 1 "$@" >"$work/flow" && grep -qF -- "$text" "$work/flow"
}

# capture records everything that crosses the bridge between the hosts, until
# captured. The shell has background jobs ignore SIGINT; tcpdump needs it.
capture() {
	plexus-lab exec "$lab" fabric env --default-signal=INT \
		tcpdump -i br0 -n -U --immediate-mode -s 0 -B 65536 -Z root -w - >"$work/pcap" 2>"$work/tcpdump" </dev/null &
	capturing=$!
	eventually 10 grep -q 'listening on' "$work/tcpdump" || fail "tcpdump: $(cat "$work/tcpdump")"
}

captured() {
	kill -INT "$capturing"
	wait "$capturing" || true
	grep -q '^0 packets dropped by kernel' "$work/tcpdump" || fail "tcpdump lost packets: $(cat "$work/tcpdump")"
}

# holds TEXT looks for it in the capture.
holds() { grep -qaF -- "$1" "$work/pcap"; }

# packets FILTER counts the packets of the capture.
packets() { tcpdump -n -r - "$1" <"$work/pcap" 2>/dev/null | wc -l; }

# finish takes everything down, unless it is to be kept.
finish() {
	local status=$?
	trap - EXIT INT TERM
	if [ "$status" != 0 ] && [ -n "$work" ]; then
		tail -n 5 "$work"/host-*.log >&2 || true
	fi
	if [ "${KEEP:-}" = 1 ]; then
		keep
	else
		disown -a # or the shell reports each of them as killed
		plexus-lab down "$lab" || status=1
		[ -z "$work" ] || rm -rf "$work"
	fi
	exit "$status"
}

keep() {
	printf '\n%sKept running.%s To enter a host:\n\n' "$bold" "$plain"
	printf '   %s/bin/plexus-lab exec %s %s bash\n' "$PWD" "$lab" host-1 "$PWD" "$lab" host-2 "$PWD" "$lab" host-3
	printf '\nThere, plexus is %s/bin/plexus. Logs of the daemons are in %s.\n' "$PWD" "$work"
	printf 'To end it: %s/bin/plexus-lab down %s; rm -r %s\n' "$PWD" "$lab" "$work"
}
