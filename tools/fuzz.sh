#!/usr/bin/env bash
# Runs every Fuzz function of the module, one after the other.
# Usage: fuzz.sh TIME, as in go test -fuzztime: 5s, or 10000x
# Inputs are hardly made smaller: by default go test takes up to a minute for each
# that reaches something new, beside that time.
set -euo pipefail
cd "$(dirname "$0")/.."

count=0
while read -r dir; do
	while read -r target; do
		count=$((count + 1))
		echo "fuzz $dir $target"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "$1" -fuzzminimizetime 10x "$dir"
	done < <(go test -list '^Fuzz' "$dir" | grep '^Fuzz')
done < <(grep -rl --include='*_test.go' '^func Fuzz' . | xargs -r -n1 dirname | sort -u)
echo "$count fuzz targets passed"
