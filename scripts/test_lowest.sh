#!/bin/sh
# Tests with the lowest version that pyproject.toml declares of every required dependency.
#
# $VENV-lowest is made for it, by $PYTHON; pip's own variables are obeyed. TorchRL is there because
# tests of all clients import it, and has the version of the extra `rl`; statsmodels is the extra `data`.
set -eu

venv=${VENV:-.venv}-lowest
requirements=$(mktemp)
trap 'rm -f "$requirements"' EXIT
"${PYTHON:-python3}" scripts/lowest_requirements.py >"$requirements"
if [ ! -d "$venv" ]; then
    "${PYTHON:-python3}" -m venv "$venv"
    echo '*' >"$venv/.gitignore"
fi
"$venv/bin/python" -m pip install -q --no-input -r "$requirements" \
    "torchrl==0.14.1" "tensordict>=0.14.3,<0.15" "statsmodels==0.14.4" \
    stable-baselines3 pytest hypothesis beartype
# Its metadata are those of a distribution: the version, entry points.
"$venv/bin/python" -m pip install -q --no-input --no-deps -e .
# The wording of messages and the last bits of numbers are those of the versions in constraints.txt.
[ $# -gt 0 ] || set -- tests/conformance tests/clients tests/scenario
OMP_NUM_THREADS=1 "$venv/bin/python" -m pytest -q -p no:cacheprovider \
    --jaxtyping-packages= --messages=ignore "$@"
