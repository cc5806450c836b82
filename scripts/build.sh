#!/usr/bin/env bash
# Configures a preset if that has not been done, and builds it (or some targets of it) on all cores.
#
#   scripts/build.sh PRESET [TARGET]... [-- CMAKE_CONFIGURE_ARGUMENT...]
set -euo pipefail
cd "$(dirname "$0")/.."

preset=${1:?"scripts/build.sh: which preset? (cmake --list-presets)"}
shift
targets=()
while (($#)) && [[ $1 != -- ]]; do targets+=("$1"); shift; done
[[ ${1:-} != -- ]] || shift

folder=build
[[ $preset = release ]] || folder=build-$preset
if [[ ! -e $folder/build.ninja || $# -gt 0 ]]; then
  cmake --preset "$preset" "$@"
fi
cmake --build "$folder" -j "${JOBS:-$(nproc)}" ${targets[@]:+--target "${targets[@]}"}
