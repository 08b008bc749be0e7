#!/bin/sh
# The tests of `make test`, in two processes side by side, for two cores.
#
# The first checks shapes and types at every call (jaxtyping, beartype), which more than doubles the
# time of a test, and has the two suites that run commands; the second runs all others without these
# checks. `make test-full` checks shapes in all suites.
#
# BIN is the folder of the environment's programs.
set -u

shapes="tests/conformance tests/agents tests/learners tests/oracles tests/docs tests/packaging"
others=
for suite in tests/*/ tests/test_*.py; do
    suite=${suite%/}
    case " $shapes tests/__pycache__ " in *" $suite "*) ;; *) others="$others $suite" ;; esac
done

output=$(mktemp) || exit 1
trap 'rm -f "$output"' EXIT

# shellcheck disable=SC2086  # lists of folders
"$BIN/python" -m pytest -q -p no:cacheprovider $shapes >"$output" 2>&1 &
first=$!
trap 'kill "$first" 2>/dev/null; rm -f "$output"; exit 130' INT TERM HUP
failed=0
# shellcheck disable=SC2086
"$BIN/python" -m pytest -q --jaxtyping-packages= $others || failed=1
wait "$first" || failed=1
cat "$output"
exit "$failed"
