#!/bin/sh
# Tests of the Gymnasium and PettingZoo clients with earlier versions of Gymnasium.
#
#   sh scripts/test_gymnasium.sh 1.2.2 1.3.0
#
# $VENV-gymnasium-VERSION has Gymnasium alone, and all other packages from $VENV.
set -eu

base=${VENV:-.venv}
packages=$("$base/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
for version; do
    venv=$base-gymnasium-$version
    if [ ! -d "$venv" ]; then
        "$base/bin/python" -m venv "$venv"
        echo '*' >"$venv/.gitignore"
        own=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
        echo "$packages" >"$own/packages.pth"
        "$venv/bin/python" -m pip install -q --no-input --no-deps "gymnasium==$version"
    fi
    "$venv/bin/python" -c "import gymnasium; assert gymnasium.__version__ == '$version'"
    echo "Gymnasium $version"
    PYTHONPATH=src OMP_NUM_THREADS=1 "$venv/bin/python" -m pytest -q -p no:cacheprovider \
        --jaxtyping-packages= --messages=ignore tests/clients/test_action_boxes.py \
        tests/clients/test_autoreset.py tests/clients/test_gymnasium.py \
        tests/clients/test_observation_format.py tests/clients/test_pettingzoo.py \
        tests/clients/test_pictures.py tests/clients/test_reward_vector.py \
        tests/clients/test_torchrl.py
done
