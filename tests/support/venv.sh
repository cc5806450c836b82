#!/usr/bin/env bash
# Prints the path of a Python that has the unmodified tritonclient or MLServer from PyPI, in a virtual environment made once in build/tools. Exit code 1, with
# a sentence, when it cannot be made: no venv module, or no package index to be reached.
#
#   venv.sh tritonclient | mlserver
set -euo pipefail
cd "$(dirname "$0")/../.."
case ${1:-} in
  tritonclient)  # without the system's packages
    version=2.51.0
    options=()
    packages=("tritonclient[grpc]==$version")
    candidates=(/usr/bin/python3 python3)
    ;;
  mlserver)  # beside the system's PyTorch: 1.13 was built for NumPy 1; uvloop 0.22 has no event loop where MLServer's workers expect one
    version=1.7.1
    options=(--system-site-packages)
    packages=("mlserver==$version" "numpy<2" "uvloop<0.22")
    candidates=(/usr/bin/python3)
    ;;
  *)
    echo "venv.sh tritonclient | mlserver" >&2
    exit 2
    ;;
esac
readonly name=$1 folder=$PWD/build/tools/$1-$version
if [[ ! -e $folder/complete ]]; then
  mkdir -p "$PWD/build/tools"
  exec 9>"$folder.lock"
  flock 9
  if [[ ! -e $folder/complete ]]; then
    rm -rf "$folder"
    python=${SCONCE_VENV_PYTHON:-}
    for candidate in "${candidates[@]}"; do
      [[ -z $python ]] && "$candidate" -c "import ensurepip, venv" 2>/dev/null && python=$candidate
    done
    [[ -n $python ]] || { echo "$name: this Python cannot make virtual environments (on Debian: apt-get install python3-venv)" >&2; exit 1; }
    "$python" -m venv "${options[@]}" "$folder" >&2
    "$folder/bin/pip" install --quiet --disable-pip-version-check --retries 1 --timeout 20 "${packages[@]}" >&2 ||
      { echo "$name: the package index cannot be reached, or lacks $name $version" >&2; exit 1; }
    touch "$folder/complete"
  fi
fi
echo "$folder/bin/python"
