#!/usr/bin/env bash
# What `make test` and CI run: installs what is missing, builds, and tests. A failing stage does not stop the ones after it.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/stages.sh

scripts/setup.sh --with build --with torch --with test --with fuzz --with lint

release() { scripts/build.sh release && run_ctest build -LE crash; }
kills() { run_ctest build -L crash --verbose; }
# The end-to-end tests again, but not those that take long and have nothing to do with LibTorch, nor those of the Python client, which ran against the release
# build; those of inference say they are skipped.
no_torch() { scripts/build.sh no-torch && run_ctest build-no-torch -LE 'crash|lint|python_client' -E 'e2e_(large|examples|round_trip|judge)'; }
asan() { scripts/build.sh asan && run_ctest build-asan -LE 'lint|python_client'; }

stage "lint" scripts/lint.sh
stage "release build, all tests but the kills" release
stage "kill -9 a hundred times, a full disk forty times" kills
stage "build without LibTorch, its tests" no_torch
stage "storage under ASan and UBSan" asan
stage "30 seconds of each fuzzer" scripts/fuzz.sh --seconds 30
finish
