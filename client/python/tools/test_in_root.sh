#!/usr/bin/env bash
# Runs the package's tests with the Python and PyTorch of another Debian release, in a throw-away root of it. The server is this machine's: the programs
# of build/bin go into the root together with the libraries that they were linked to.
#
#   client/python/tools/test_in_root.sh RELEASE [PYTEST_ARGUMENT]...      e.g. trixie (PyTorch 2.6), forky (2.14)
#
# Needs root, and DEBIAN_ROOT_TOOL (a script that runs a command in such a root with a folder bound at /src); without it says so and exits 77.
# SCONCE_BIN_DIR says where the programs are.
set -euo pipefail
cd "$(dirname "$0")/../../.."

release=${1:?"test_in_root.sh: which Debian release?"}
shift
tool=${DEBIAN_ROOT_TOOL:-}
for shared in "${SCONCE_SHARED_DIR:-../shared}" ../../shared; do
  [[ -n $tool ]] || [[ ! -x $shared/tools/debian-root.sh ]] || tool=$shared/tools/debian-root.sh
done
if [[ -z $tool || $EUID != 0 ]]; then
  echo "skipped: needs root, and a tool that makes Debian roots (DEBIAN_ROOT_TOOL)"
  exit 77
fi
programs=$(realpath "${SCONCE_BIN_DIR:-build/bin}")

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
tar -c --exclude='./build*' --exclude=./.git --exclude=./sconce-data --exclude=__pycache__ . | tar -x -C "$folder"
mkdir -p "$folder/build/bin" "$folder/build/lib"
for program in sconced sconce; do
  cp "$programs/$program" "$folder/build/lib"
  ldd "$programs/$program" | awk '$2 == "=>" {print $3} $1 ~ /^\// {print $1}' | xargs cp -L -t "$folder/build/lib"
  printf '#!/bin/sh\nexec /src/build/lib/ld-linux-*.so.* --library-path /src/build/lib /src/build/lib/%s "$@"\n' "$program" >"$folder/build/bin/$program"
  chmod +x "$folder/build/bin/$program"
done
packages="python3-torch python3-numpy python3-grpcio python3-protobuf python3-xxhash python3-pytest python3-tqdm python3-setuptools python3-wheel
  protobuf-compiler openssl"
# shellcheck disable=SC2016
"$tool" "$release" --packages "${packages//$'\n'/ }" --bind "$folder" -- env -u SCONCE_BIN_DIR -u SCONCE_SOURCE_DIR PYTHONDONTWRITEBYTECODE=1 HOME=/tmp sh -ec '
  cd /src/client/python/tests
  if [ $# -gt 0 ]; then exec python3 -m pytest -q -rs -p no:cacheprovider -W ignore --basetemp=/src/tmp "$@"; fi
  python3 -m pytest -q -rs -p no:cacheprovider -W ignore --basetemp=/src/tmp --ignore=codec .
  python3 -m pytest -q -rs -p no:cacheprovider -W ignore --basetemp=/src/tmp codec' sh "$@"
