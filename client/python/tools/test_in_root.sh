#!/usr/bin/env bash
# Runs the package's tests with the Python and PyTorch of another Debian release, in a throw-away root of it. The server is this machine's: the programs
# of build/bin go into the root together with the libraries that they were linked to. The adapters to other libraries are tested with those libraries
# (fits_env.sh), where they can be installed: the environment is kept in the root, and PyPI is asked the first time.
#
#   client/python/tools/test_in_root.sh RELEASE [PYTEST_ARGUMENT]...      e.g. trixie (PyTorch 2.6), forky (2.14); fits/test_lightning.py
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
  protobuf-compiler libprotobuf-dev openssl python3-venv python3-pip"
cp /etc/ssl/certs/ca-certificates.crt "$folder/authorities.pem"  # that this machine trusts, and the root need not know
# shellcheck disable=SC2016
# A mount namespace of its own, so that several of these may run at once.
unshare -m "$tool" "$release" --packages "${packages//$'\n'/ }" --bind "$folder" -- \
  env -u SCONCE_BIN_DIR -u SCONCE_SOURCE_DIR PYTHONDONTWRITEBYTECODE=1 HOME=/tmp sh -ec '
  cd /src/client/python/tests
  run_tests() {
    python=$1
    shift
    "$python" -m pytest -q -rs -p no:cacheprovider -W ignore --basetemp=/src/tmp "$@"
  }
  fits_python() {
    env=/opt/sconce-fits
    if PIP_CERT=/src/authorities.pem SSL_CERT_FILE=/src/authorities.pem PIP_FIND_LINKS= /src/client/python/tools/fits_env.sh "$env" >&2; then
      echo "$env/bin/python"
    else
      echo "test_in_root: Lightning and transformers could not be installed: their classes are faked" >&2
      echo python3
    fi
  }
  case "${1:-}" in
    "")
      failed=0  # all of them run, whatever fails
      run_tests python3 --ignore=codec --ignore=fits . || failed=1
      run_tests python3 codec || failed=1
      run_tests "$(fits_python)" fits || failed=1
      exit "$failed"
      ;;
    fits*) run_tests "$(fits_python)" "$@" ;;
    *) run_tests python3 "$@" ;;
  esac' sh "$@"
