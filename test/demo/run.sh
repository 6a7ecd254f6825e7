#!/usr/bin/env bash
# Shows three hosts in a mesh, and checks everything it says: it exits non-zero
# if any of it is not so. KEEP=1 leaves the hosts running.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PATH=$PWD/bin:$PATH
# shellcheck source=test/demo/lib.sh
source test/demo/lib.sh

build_hosts() {
	title 'Three hosts on one wire'
	say 'Each host is a set of namespaces with an address of its own, joined by a bridge:' \
		'real packets, real kernels, real plexusd. They have never heard of each other.'
	plexus-lab up "$lab"
	plexus-lab hosts "$lab" | indent
	for host in host-1 host-2 host-3; do daemon "$host"; done
	for host in host-1 host-2 host-3; do
		eventually 10 on "$host" test -S /run/plexus/plexusd.sock || fail "plexusd does not answer on $host"
	done
	ok 'plexusd runs on all three and waits to be told'
}

join_mesh() {
	title 'The first host makes the mesh, the others join with a token'
	show host-1 plexus init --cluster-name demo --cluster-id 7 --label app=web
	say 'A token is good for one host, and gives it its labels.'
	show host-1 sh -c "plexus token create --label app=db > $work/token-2"
	show host-2 plexus join --token-file "$work/token-2"
	say 'Used once, it is worth nothing: host-3 cannot join with it.'
	if show host-3 plexus join --token-file "$work/token-2"; then fail 'a used-up token was accepted'; fi
	ok 'refused, with the cause'
	show host-1 sh -c "plexus token create --label app=batch > $work/token-3"
	show host-3 plexus join --token-file "$work/token-3"
	for host in host-1 host-2 host-3; do
		on "$host" plexus status --wait >"$work/status" || fail "$host is not ready: $(cat "$work/status")"
	done
	show host-1 plexus node list
	ok 'all three hosts are ready'
	db4=$(field host-2 node.meshIPv4) db6=$(field host-2 node.meshIPv6)
	read -r _ node4 node6 < <(plexus-lab hosts "$lab" | sed -n 2p)
}

serve() {
	# shellcheck disable=SC2086 # two words
	on host-2 $talk serve 5432 5353 5433 >"$work/serve" 2>&1 </dev/null &
	eventually 10 grep -q ready "$work/serve" || fail "the service on host-2: $(cat "$work/serve")"
}

open_mesh() {
	title 'Without policy, every member reaches every member'
	say 'host-2 (app=db) serves TCP and UDP; host-1 is app=web, host-3 is app=batch.' \
		'Their programs are in test/demo/talk.py.'
	serve
	answered 'web reaches db over IPv4' host-1 tcp "$db4" 5432 hello
	answered 'batch reaches db over IPv6' host-3 tcp "$db6" 5432 hello
}

apply_policy() {
	title 'A policy by labels'
	indent <test/demo/policy.yaml
	show host-1 plexus policy apply -f "$PWD/test/demo/policy.yaml"
	enforced() { [ "$(field host-2 datapath.policyRevision)" = 1 ]; }
	eventually 10 enforced || fail 'host-2 does not enforce revision 1'
	ok 'host-2 enforces it'
}

allowed() {
	title 'What it allows'
	answered 'web reaches db, TCP over mesh IPv4' host-1 tcp "$db4" 5432 hello
	because 'database ingress[0]' --from label=app=web --to "$db4" --port 5432 --verdict FORWARDED
	answered 'web reaches db, TCP over mesh IPv6' host-1 tcp "$db6" 5432 hello
	answered 'web reaches db, UDP over mesh IPv4' host-1 udp "$db4" 5353 hello
	answered 'web reaches db, UDP over mesh IPv6' host-1 udp "$db6" 5353 hello
	because 'database ingress[0]' --from label=app=web --to "$db6" --protocol UDP --verdict FORWARDED
	answered 'web reaches db at its IPv4 node address' host-1 tcp "$node4" 5432 hello
	answered 'web reaches db at its IPv6 node address' host-1 tcp "$node6" 5432 hello
}

denied() {
	title 'What it denies, and why'
	say 'A rule denies batch on the port of the database:'
	silent 'batch does not reach db over mesh IPv4' host-3 tcp "$db4" 5432 hello
	because 'database ingressDeny[0]' --from label=app=batch --to "$db4" --port 5432 --verdict DROPPED
	silent 'batch does not reach db at its IPv6 node address either' host-3 tcp "$node6" 5432 hello
	because 'database ingressDeny[0]' --from label=app=batch --to "$node6" --port 5432 --verdict DROPPED
	say 'No rule allows these, which is enough to deny them:'
	silent 'batch gets no answer to UDP over mesh IPv6' host-3 udp "$db6" 5353 hello
	because 'policy denied' --from label=app=batch --to "$db6" --port 5353 --verdict DROPPED
	silent 'web does not reach a port that no rule names' host-1 tcp "$db4" 5433 hello
	because 'policy denied' --from label=app=web --to "$db4" --port 5433 --verdict DROPPED
}

prove_encryption() {
	title 'Nothing between members crosses the wire in plaintext'
	local mark=MESH-$RANDOM-$RANDOM-$RANDOM control=NODE-$RANDOM-$RANDOM-$RANDOM
	say "A capture on the bridge sees every packet. The text $mark is sent through the mesh:"
	capture
	answered 'TCP, IPv4' host-1 tcp "$db4" 5432 "$mark"
	answered 'TCP, IPv6' host-1 tcp "$db6" 5432 "$mark"
	answered 'UDP, IPv4' host-1 udp "$db4" 5353 "$mark"
	answered 'UDP, IPv6' host-1 udp "$db6" 5353 "$mark"
	answered 'TCP to the IPv4 node address' host-1 tcp "$node4" 5432 "$mark"
	answered 'TCP to the IPv6 node address' host-1 tcp "$node6" 5432 "$mark"
	say 'Would the capture show plaintext? Another text, sent last and to everybody on the wire,' \
		'who need not be members, must show.'
	# shellcheck disable=SC2086 # two words
	plexus-lab exec "$lab" host-1 $talk broadcast 192.0.2.255 "$control"
	eventually 10 holds "$control" || fail 'the capture misses plaintext: it proves nothing'
	captured
	ok "$control is in the capture, so everything sent before it is too"
	judge_capture "$mark"
}

judge_capture() {
	local data stray
	data=$(packets 'udp port 51871 and udp[8] = 4')
	stray=$(packets "net 10.210.0.0/16 or net ${db6%::*}::/64")
	((data >= 16)) || fail "the capture has only $data packets of WireGuard data"
	ok "the capture has $data packets of WireGuard data"
	[ "$stray" = 0 ] || fail "$stray packets show a mesh address"
	ok 'no packet shows a mesh address'
	if holds "$1"; then fail "$1 is in the capture"; fi
	ok "$1 is nowhere in it"
}

kill_daemons() {
	title 'The daemons die, the network does not'
	# shellcheck disable=SC2086 # two words
	plexus-lab exec "$lab" host-1 $talk hold "$db4" 5432 "$work/hold" >"$work/hold.log" 2>&1 </dev/null &
	holding=$!
	eventually 10 test -e "$work/hold" || fail "open a connection to hold: $(cat "$work/hold.log")"
	say 'host-1 holds a TCP connection to host-2, with 20 exchanges a second. Now all three' \
		'daemons, the embedded etcd among them, are killed:'
	for host in host-1 host-2 host-3; do
		printf '   %s%s# kill -KILL %s  # plexusd%s\n' "$blue" "$host" "${pid[$host]}" "$plain"
		kill -KILL "${pid[$host]}"
		wait "${pid[$host]}" 2>/dev/null || true
	done
	if on host-2 plexus status >"$work/status" 2>&1; then fail 'plexusd still answers on host-2'; fi
	ok 'no daemon answers'
	answered 'web still reaches db, with a new connection' host-1 tcp "$db6" 5432 hello
	silent 'batch is still denied' host-3 tcp "$db4" 5432 hello
	held 1000
	ok 'the held connection goes on'
}

# held LIMIT wants the held connection alive, no answer later than LIMIT ms.
held() {
	local before count longest
	read -r before _ <"$work/hold"
	moved() { read -r count longest <"$work/hold" && ((count > before + 5)); }
	eventually 5 moved || fail "the held connection stands still: $(cat "$work/hold.log")"
	kill -0 "$holding" || fail "the held connection broke: $(cat "$work/hold.log")"
	((longest < $1)) || fail "an answer on the held connection took $longest ms"
	say "$count exchanges so far, the slowest took $longest ms"
}

revive_daemons() {
	title 'Started again, they take over what is there'
	for host in host-1 host-2 host-3; do daemon "$host"; done
	for host in host-1 host-2 host-3; do
		on "$host" plexus status --wait >"$work/status" 2>&1 || fail "$host is not ready: $(cat "$work/status")"
	done
	ok 'all three hosts are ready again'
	held 1000
	ok 'the held connection lost nothing'
	silent 'batch is denied as before' host-3 tcp "$db4" 5432 hello
	because 'database ingressDeny[0]' --from label=app=batch --to "$db4" --port 5432 --verdict DROPPED
	show host-2 plexus status
}

main() {
	[ "$(id -u)" = 0 ] || fail 'namespaces and eBPF need root: sudo make demo'
	local db4 db6 node4 node6 holding
	trap finish EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM
	work=$(mktemp -d /tmp/plexus-demo.XXXXXX)
	build_hosts
	join_mesh
	open_mesh
	apply_policy
	allowed
	denied
	prove_encryption
	kill_daemons
	revive_daemons
	printf '\n%sEverything said above was checked and holds.%s\n' "$bold" "$plain"
}

main
