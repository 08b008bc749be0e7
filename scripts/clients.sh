#!/bin/sh
# Test the clients and write docs/reference/clients.md: every client in an environment in which it
# agrees with its requirements.
#
#   sh scripts/clients.sh                 all groups
#   sh scripts/clients.sh rllib current   some of them; project: the environment of the project itself
#
# A group is a file tests/external/requirements/NAME.txt, and NAME.no-deps.txt for packages that are
# installed without their requirements. Its environment is .venv-clients/NAME. It sees the packages
# of the project's environment (torch is not installed once more) and shadows those of other
# versions; it is made anew when a requirement, or the project's environment, changes.
#
# BIN is the folder of the project's programs. MORES_EPYMARL and MORES_PUFFERLIB name folders with
# the source code of these clients.
set -eu

BIN=${BIN:-.venv/bin}
requirements=tests/external/requirements
results=tests/external/results.json
groups=${*:-"project gymnasium-1.2 gymnasium-1.3 current rllib benchmarl paths"}
failed=0

# Make the environment of a group, unless it is up to date.
set_up() {
    venv=.venv-clients/$1
    base=$("$BIN/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    stamp=$(cat "$requirements/$1".*txt | cksum; cksum <pyproject.toml; cksum <constraints.txt)
    [ "$(cat "$venv/mores-installed" 2>/dev/null)" != "$stamp" ] || return 0
    echo "setting up $venv" >&2
    rm -rf "$venv"
    mkdir -p .venv-clients
    echo '*' >.venv-clients/.gitignore
    "$BIN/python" -m venv "$venv" || return 1
    echo "$base" >"$("$venv/bin/python" -c \
        'import sysconfig; print(sysconfig.get_path("purelib"))')/project.pth"
    "$venv/bin/python" -m pip install -qq --no-input -r "$requirements/$1.txt" || return 1
    if [ -f "$requirements/$1.no-deps.txt" ]; then
        "$venv/bin/python" -m pip install -qq --no-input --no-deps --no-build-isolation \
            -r "$requirements/$1.no-deps.txt" || return 1
    fi
    echo "$stamp" >"$venv/mores-installed"
}

for group in $groups; do
    case $group in
    project | paths) python=$BIN/python ;;
    *)
        if ! set_up "$group"; then
            echo "clients: $group could not be installed, see above" >&2
            failed=1
            continue
        fi
        python=.venv-clients/$group/bin/python
        ;;
    esac
    echo "clients: $group" >&2
    tests=$("$python" -c "
from tests.external.clients import CLIENTS
tests = {'tests/' + test for client in CLIENTS if '$group' in client.groups for test in client.tests}
if '$group'.startswith('gymnasium-'):
    tests.add('tests/bug_reports')
if '$group' == 'project':
    tests.add('tests/clients')
print(*sorted(tests))")
    # shellcheck disable=SC2086  # a list of files
    MORES_TESTS=${MORES_TESTS:-full} MORES_CLIENT_GROUP=$group MORES_CLIENT_RESULTS=$results \
        PYTHONPATH=src:. "$python" -m pytest -q -p no:cacheprovider -p tests.external.recorder \
        --jaxtyping-packages= $tests || failed=1
done
"$BIN/python" -m tests.external.table || failed=1
exit "$failed"
