# Sourced by test.sh and test_long.sh: `stage NAME COMMAND...` runs a command, says how long it took, and remembers a failure;
# `finish` prints the summary and exits.
stage_lines=()
stage_failed=0
start_seconds=$SECONDS

minutes() { printf '%d:%02d' $(($1 / 60)) $(($1 % 60)); }

stage() {
  local name=$1 began=$SECONDS outcome=ok
  shift
  echo
  echo "=== $name"
  "$@" || { outcome=FAILED; stage_failed=1; }
  local line
  line=$(printf '%-10s %6s  %s' "$outcome" "$(minutes $((SECONDS - began)))" "$name")
  stage_lines+=("$line")
  echo "=== $line"
}

finish() {
  echo
  echo "--- summary (minutes:seconds)"
  printf '%s\n' "${stage_lines[@]}"
  printf '%-10s %6s  %s\n' "$([[ $stage_failed = 0 ]] && echo ok || echo FAILED)" "$(minutes $((SECONDS - start_seconds)))" "all of it"
  exit "$stage_failed"
}

# Tests of a build folder, those of label SELECTION (ctest's -L, -LE and so on).
run_ctest() {
  local folder=$1
  shift
  ctest --test-dir "$folder" -j "$(nproc)" --output-on-failure --no-tests=error "$@"
}
