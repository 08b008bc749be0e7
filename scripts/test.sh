#!/bin/sh
# The tests of `make test`, in two processes side by side, for two cores.
#
# The first checks shapes and types at every call (jaxtyping, beartype), which more than doubles the
# time of a test, in some suites; then it runs others without these checks, as the second does.
# `make test-full` checks shapes in all suites.
#
# BIN is the folder of the environment's programs.
set -u

shapes="tests/conformance tests/agents tests/learners tests/docs tests/packaging"
first="tests/attacks tests/clients tests/golden tests/scenario tests/text"
second=
for suite in tests/*/ tests/test_*.py; do
    suite=${suite%/}
    case " $shapes $first tests/__pycache__ " in *" $suite "*) ;; *) second="$second $suite" ;; esac
done

output=$(mktemp) || exit 1
trap 'rm -f "$output"' EXIT

# shellcheck disable=SC2086  # lists of folders
first_process() {
    trap 'kill "$tests" 2>/dev/null; exit 143' TERM
    "$BIN/python" -m pytest -q -p no:cacheprovider $shapes &
    tests=$!
    wait "$tests"
    checked=$?
    "$BIN/python" -m pytest -q -p no:cacheprovider --jaxtyping-packages= $first &
    tests=$!
    wait "$tests" && return "$checked"
}

first_process >"$output" 2>&1 &
process=$!
trap 'kill "$process" 2>/dev/null; rm -f "$output"; exit 130' INT TERM HUP
failed=0
# shellcheck disable=SC2086
"$BIN/python" -m pytest -q --jaxtyping-packages= $second || failed=1
wait "$process" || failed=1
cat "$output"
exit "$failed"
