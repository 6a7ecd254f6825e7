package bpfobj

// The early stage is an object of its own: hosts that have no use for it never load it.
//
//go:generate go tool bpf2go -cc clang-19 -strip llvm-strip-19 -target bpfel -no-global-types -type early_counter Early ../../bpf/plexus_xdp.bpf.c -- -mcpu=v3 -Wall -Wextra -Werror -Wno-unused-function -nostdinc -I../../bpf/include -I../../bpf
