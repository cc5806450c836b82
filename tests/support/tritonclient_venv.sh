#!/usr/bin/env bash
# Prints the path of a Python that has the unmodified tritonclient from PyPI: in a virtual environment of its own without the system's packages, made once
# in build/tools. Exit code 1, with a sentence, when it cannot be made: no venv module, or no package index to be reached.
set -euo pipefail
cd "$(dirname "$0")/../.."
readonly version=2.51.0
folder=$PWD/build/tools/tritonclient-$version
if [[ ! -e $folder/complete ]]; then
  mkdir -p "$PWD/build/tools"
  exec 9>"$folder.lock"
  flock 9
  if [[ ! -e $folder/complete ]]; then
    rm -rf "$folder"
    python=${SCONCE_VENV_PYTHON:-}
    for candidate in /usr/bin/python3 python3; do
      [[ -z $python ]] && "$candidate" -c "import ensurepip, venv" 2>/dev/null && python=$candidate
    done
    [[ -n $python ]] || { echo "tritonclient: this Python cannot make virtual environments (on Debian: apt-get install python3-venv)" >&2; exit 1; }
    "$python" -m venv "$folder" >&2
    "$folder/bin/pip" install --quiet --disable-pip-version-check --retries 1 --timeout 20 "tritonclient[grpc]==$version" >&2 ||
      { echo "tritonclient: the package index cannot be reached, or lacks tritonclient $version" >&2; exit 1; }
    touch "$folder/complete"
  fi
fi
echo "$folder/bin/python"
