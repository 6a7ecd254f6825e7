#!/usr/bin/env bash
# Regenerates everything and fails when a committed generated file differs.
set -euo pipefail
cd "$(dirname "$0")/.."

# Other versions of clang emit other code, so bytes are compared for this one only.
pinned=19.1.7
generated=('*_bpfel.go' '*_bpfel.o' '*_bpfeb.go' '*_bpfeb.o' '*_string.go')

found=$(clang-19 -dumpversion 2>/dev/null || echo none)
if [ "$found" != "$pinned" ]; then
	echo "NOT CHECKED: generated code needs clang $pinned, found: $found" >&2
	case ",${PLEXUS_TEST_REQUIRE:-}," in *,clang,*) exit 1 ;; esac
	exit 0
fi
git() { command git -c safe.directory='*' "$@"; }
if ! git rev-parse --is-inside-work-tree >/dev/null 2>&1; then
	echo "NOT CHECKED: generated code can be compared in a git tree only" >&2
	case ",${PLEXUS_TEST_REQUIRE:-}," in *,clang,*) exit 1 ;; esac
	exit 0
fi
make --no-print-directory generate
git diff --exit-code --stat -- "${generated[@]}" || {
	echo "generated files differ from their source: run make generate and commit the result" >&2
	exit 1
}
new=$(git ls-files --others --exclude-standard -- "${generated[@]}")
if [ -n "$new" ]; then
	echo "generated files are not committed: $new" >&2
	exit 1
fi
