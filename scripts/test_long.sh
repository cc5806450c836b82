#!/usr/bin/env bash
# What is run before an issue is closed: everything `make test` runs, but longer, with other compilers, and on other Debian releases.
# Needs root for the last two; takes hours. SCONCE_RELEASES chooses the releases (default: trixie forky).
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/stages.sh

scripts/setup.sh --with build --with torch --with test --with fuzz --with lint --with roots

# ThreadSanitizer covers base and storage: Debian's gRPC is not built for it, and would be reported as racing.
tsan() { scripts/build.sh tsan && run_ctest build-tsan -LE lint; }
clang() { scripts/build.sh clang && run_ctest build-clang -L 'unit|contract|integration'; }
kills() { scripts/build.sh release && SCONCE_KILLS=1000 SCONCE_FULL_DISKS=1000 run_ctest build -L crash --verbose; }
cycles() { SCONCE_MODEL_CYCLES=200 run_ctest build -R e2e_isolation; }
boundaries() { SCONCE_EVERY_BOUNDARY=1 run_ctest build -R 'power_loss'; }
# Files that we wrote, judged by that release's PyTorch with weights_only=True; says so where the fixtures for it are missing.
judged() { tests/python/judge_in_root.sh "$1" || [[ $? = 77 ]]; }
python_client() { client/python/tools/test_in_root.sh "$1" || [[ $? = 77 ]]; }
# The Python package's adapters with the libraries that they are for, as far as those run with this machine's PyTorch.
fits() {
  client/python/tools/fits_env.sh build/fits-env &&
    build/fits-env/bin/python -m pytest -q -rs -p no:cacheprovider -W ignore client/python/tests/fits
}

stage "make test" scripts/test.sh
stage "storage under TSan" tsan
stage "clang with -Wthread-safety, its tests" clang
stage "kill -9 and a full disk a thousand times" kills
stage "models loaded and unloaded 200 times" cycles
stage "power loss and failing disks at every operation" boundaries
stage "10 minutes of each fuzzer" scripts/fuzz.sh --seconds 600
stage "the Dockerfile's stages in a Debian root" tests/docker/run_in_root.py build runtime
stage "Lightning and Hugging Face's Trainer here" fits
for release in ${SCONCE_RELEASES:-trixie forky}; do
  stage "Debian $release" scripts/debian_release.sh "$release"
  stage "our files in PyTorch of Debian $release" judged "$release"
  stage "the Python client on Debian $release" python_client "$release"
done
finish
