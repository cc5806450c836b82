#!/usr/bin/env bash
# Prints the path of a Python that has MLServer from PyPI beside the system's PyTorch: in a virtual environment of its own, made once in build/tools. Exit code
# 1, with a sentence, when it cannot be made: no venv module, or no package index to be reached.
set -euo pipefail
cd "$(dirname "$0")/../.."
readonly version=1.7.1
folder=$PWD/build/tools/mlserver-$version
if [[ ! -e $folder/complete ]]; then
  mkdir -p "$PWD/build/tools"
  exec 9>"$folder.lock"
  flock 9
  if [[ ! -e $folder/complete ]]; then
    rm -rf "$folder"
    /usr/bin/python3 -c "import ensurepip, venv" 2>/dev/null || { echo "mlserver: this Python cannot make virtual environments (on Debian: apt-get install python3-venv)" >&2; exit 1; }
    /usr/bin/python3 -m venv --system-site-packages "$folder" >&2
    # PyTorch 1.13 was built for NumPy 1; uvloop 0.22 has no event loop where MLServer's workers expect one.
    "$folder/bin/pip" install --quiet --disable-pip-version-check --retries 1 --timeout 20 "mlserver==$version" "numpy<2" "uvloop<0.22" >&2 ||
      { echo "mlserver: the package index cannot be reached, or lacks mlserver $version" >&2; exit 1; }
    touch "$folder/complete"
  fi
fi
echo "$folder/bin/python"
