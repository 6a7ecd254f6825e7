#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# Copies libbpf's headers for programs here, from Debian's libbpf-dev or from the
# folder given. Run make generate afterwards and read the difference. uapi.h is
# our own and is not touched: it grows by hand.
set -eu

from=${1:-/usr/include/bpf}
here=$(dirname "$0")
for header in bpf_helpers.h bpf_helper_defs.h bpf_endian.h; do
	if [ ! -r "$from/$header" ]; then
		echo "$from/$header is not there: apt-get install libbpf-dev" >&2
		exit 1
	fi
	cp "$from/$header" "$here/$header"
done
