package bpfobj

// One object serves every architecture that Plexus is built for: amd64 and arm64
// are both little-endian, and the programs use nothing of the machine.
//
//go:generate go tool bpf2go -cc clang-19 -strip llvm-strip-19 -target bpfel -type addr -type direction -type drop_reason -type tcp_state -type peer_flags -type ct_flags -type counter_layout -type flow_event -type prefix_key -type policy_key -type policy_value -type cache_entry Plexus ../../bpf/plexus_tc.bpf.c -- -mcpu=v3 -Wall -Wextra -Werror -Wno-unused-function -nostdinc -I../../bpf/include -I../../bpf
