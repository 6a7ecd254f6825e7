#!/usr/bin/env bash
# Runs the named make targets in order and stops at the first that fails. The
# last lines repeat every test result and say how long each target took.
set -euo pipefail

logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
times=
for target in "$@"; do
	echo "== $target"
	start=$SECONDS
	if ! "${MAKE:-make}" --no-print-directory "$target" 2>&1 | tee -a "$logs/all"; then
		printf '%s== FAILED: %s after %d s\n' "$times" "$target" $((SECONDS - start)) >&2
		exit 1
	fi
	times+=$(printf '%6d s  %s' $((SECONDS - start)) "$target")$'\n'
done
echo "== results"
grep -E '^(ok|FAIL|skipped|[0-9]+ (tests|fuzz targets) passed)' "$logs/all" || true
printf '== all passed\n%s%6d s  in all\n' "$times" "$SECONDS"
