#!/usr/bin/env bash
# Checks that the C++ sources are formatted and the layers are kept; with --fix, formats them instead.
#
# clang-format's releases disagree with each other, so only release 14 (Debian 12's) judges. Where only another one is
# installed the formatting is not checked, and that is said.
set -euo pipefail
cd "$(dirname "$0")/.."

files() { find base storage proto server client tests examples \( -name '*.cc' -o -name '*.h' -o -name '*.proto' \) -print0; }
sources() { find base storage proto server client tests examples \( -name '*.cc' -o -name '*.h' \) -print0; }

formatter=
for candidate in clang-format-14 clang-format; do
  if command -v "$candidate" >/dev/null && [[ $("$candidate" --version) == *"version 14."* ]]; then formatter=$candidate; break; fi
done

failed=0
if [[ -z $formatter ]]; then
  echo "lint: no clang-format 14 here: formatting not checked"
elif [[ ${1:-} = --fix ]]; then
  sources | xargs -0 -r -n 20 -P "$(nproc)" "$formatter" -i
  echo "lint: formatted with $("$formatter" --version)"
else
  # xargs answers 123 when a file is not formatted, and other numbers when clang-format could not judge.
  complaints=$(sources | xargs -0 -r -n 20 -P "$(nproc)" "$formatter" --dry-run -Werror 2>&1) || { status=$?; failed=1; }
  unformatted=$(sed -n 's/:[0-9]*:[0-9]*: error.*//p' <<< "$complaints" | sort -u)
  [[ -z $unformatted ]] || printf 'lint: not formatted (run make format):\n%s\n' "$unformatted"
  if ((failed)) && [[ -z $unformatted ]]; then printf 'lint: %s failed (%s):\n%s\n' "$formatter" "$status" "$complaints"; fi
fi

python3 cmake/check_layers.py || failed=1
python3 tests/docs/check_errors.py || failed=1
if files | xargs -0 -r grep -nE '[[:blank:]]+$'; then echo "lint: blanks at the ends of these lines"; failed=1; fi
for script in scripts/*.sh tests/*/*.sh examples/*.sh .ci/run; do
  [[ -e $script ]] || continue
  bash -n "$script" || failed=1
done
((failed)) || echo "lint: clean"
exit "$failed"
