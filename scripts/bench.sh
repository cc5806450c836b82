#!/usr/bin/env bash
# Builds and runs the benchmarks, one after the other. docs/benchmarks.md says what they mean.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh --with build --with torch --with test --with bench
scripts/build.sh bench
mapfile -t programs < <(find build-bench/bench -maxdepth 1 -type f -executable 2>/dev/null | sort)
((${#programs[@]})) || { echo "bench: there are no benchmarks yet" >&2; exit 1; }
# SCONCE_SCALE="1000000 10000": versions and runs of scale_bench's large store, where its own default (a tenth) is too small.
read -ra scale <<< "${SCONCE_SCALE:-}"
for program in "${programs[@]}"; do
  if [[ $program = */scale_bench ]]; then "$program" "${scale[@]}"; else "$program"; fi
done
/usr/bin/python3 tests/bench/index_bench.py build-bench/tests/index_torch
scripts/build.sh release sconced sconce sconce-torch-worker worker_hop_bench serving_load serving_floor
SCONCE_BIN_DIR=build/bin /usr/bin/python3 tests/bench/python_client_bench.py
build/tests/worker_hop_bench
# SCONCE_SERVING: options and sections of serving_bench.py, where all of it (about an hour) is too much.
read -ra serving <<< "${SCONCE_SERVING:-}"
SCONCE_BIN_DIR=build/bin SCONCE_BENCH_DIR=build/tests /usr/bin/python3 tests/bench/serving_bench.py "${serving[@]}"
