#!/usr/bin/env bash
# Runs every fuzzer (or those named) for a while, as many at once as there are cores; fails if one finds anything.
#
#   scripts/fuzz.sh [--seconds N] [FUZZER]...        default 30 seconds each
#
# A fuzzer starts from tests/fuzz/corpus/<its name> and keeps what it finds on top of that in build-fuzz/corpus. An input that
# breaks something is left in build-fuzz/findings: add it to the corpus together with the fix.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=30
if [[ ${1:-} = --seconds ]]; then seconds=${2:?}; shift 2; fi

scripts/setup.sh --with build --with fuzz
compiler=clang++-14
command -v "$compiler" >/dev/null || compiler=clang++
scripts/build.sh fuzz $([[ -e build-fuzz/build.ninja ]] || echo -- -DCMAKE_CXX_COMPILER="$compiler")

if (($# == 0)); then
  mapfile -t names < <(find build-fuzz/fuzz -maxdepth 1 -type f -executable -printf '%f\n' | sort)
else
  names=("$@")
fi
((${#names[@]})) || { echo "fuzz: no fuzzers were built" >&2; exit 1; }

run_one() {
  local name=$1 log=build-fuzz/findings/$1.log seeds=tests/fuzz/corpus/$1
  mkdir -p "build-fuzz/corpus/$name"
  [[ -d $seeds ]] || seeds=
  if "build-fuzz/fuzz/$name" -max_total_time="$SECONDS_EACH" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
      -artifact_prefix="build-fuzz/findings/$name-" "build-fuzz/corpus/$name" $seeds >"$log" 2>&1; then
    echo "fuzz: $name: nothing found in $(awk '/stat::number_of_executed_units/ {print $2}' "$log") runs, $(find "build-fuzz/corpus/$name" -type f | wc -l) inputs in the corpus"
  else
    tail -n 60 "$log"
    echo "fuzz: $name FAILED, see $log"
    return 1
  fi
}
export -f run_one
export SECONDS_EACH=$seconds
mkdir -p build-fuzz/findings
echo "fuzz: ${#names[@]} fuzzers for $seconds seconds each: ${names[*]}"
printf '%s\0' "${names[@]}" | xargs -0 -n 1 -P "$(nproc)" bash -c 'run_one "$1"' _
