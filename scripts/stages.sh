# Sourced by test.sh and test_long.sh: `stage NAME COMMAND...` runs a command, says how long it took, and remembers a failure;
# `finish` prints the summary, what the tests that failed said, and exits.
stage_lines=()
failures=()
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
  [[ ${#failures[@]} = 0 ]] || printf '\n%s\n' "${failures[@]}"
  printf '%-10s %6s  %s\n' "$([[ $stage_failed = 0 ]] && echo ok || echo FAILED)" "$(minutes $((SECONDS - start_seconds)))" "all of it"
  exit "$stage_failed"
}

# Tests of a build folder, those of label SELECTION (ctest's -L, -LE and so on).
run_ctest() {
  local folder=$1
  shift
  rm -f "$folder/Testing/Temporary/LastTestsFailed.log"
  ctest --test-dir "$folder" -j "$(nproc)" --output-on-failure --no-tests=error "$@" || { note_failures "$folder"; return 1; }
}

# Keeps for the end what the tests that just failed in a build folder said of it, a page of each: their output is far up by then.
note_failures() {
  local folder=$1 name output said
  while IFS=: read -r _ name; do
    output=$(awk -v name="$name" '/^[0-9]+\/[0-9]+ Testing: / { inside = ($3 == name) } inside' "$folder/Testing/Temporary/LastTest.log" | grep -v '^{"ts"')
    said=$(grep -E -A 8 ': Failure$|: Failure |ERROR: |SUMMARY: |^E  |^FAILED |terminate called|Check failed' <<<"$output" || true)
    failures+=("--- $folder: $name"$'\n'"$(head -60 <<<"${said:-$(tail -30 <<<"$output")}" | cut -c1-300)")
  done < <(cat "$folder/Testing/Temporary/LastTestsFailed.log" 2>/dev/null)
}
