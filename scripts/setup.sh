#!/bin/sh
# Set up the virtual environment of this checkout, unless it is set up already.
#
#   sh scripts/setup.sh data,rl,test,dev          the extras of mores that are wanted
#
# VENV is the folder, .venv by default; PYTHON the Python to make it with. pip's own variables are
# obeyed (PIP_INDEX_URL, PIP_EXTRA_INDEX_URL, PIP_FIND_LINKS, ...).
#
# $VENV/mores-made says that this script made the folder, and where: only then may it be deleted.
# $VENV/mores-installed says what was installed from what. It is emptied before pip begins and
# written when pip is done, so that an interrupted installation is never taken for a whole one.
set -eu

extras=$1
venv=${VENV:-.venv}
python=${PYTHON:-python3}

fail() {
    echo "mores: $*" >&2
    exit 1
}

# What is wrong with a Python, in a line; nothing where it will do.
complaint() {
    "$1" -c '
import sys
if sys.version_info < (3, 11):
    print("is %d.%d.%d: install Python 3.12" % sys.version_info[:3])
else:
    for name in ("venv", "ensurepip"):
        try:
            __import__(name)
        except ImportError:
            print("lacks the module %s: install it (Debian, Ubuntu: apt install python%d.%d-venv)"
                  % ((name,) + sys.version_info[:2]))
            break
' 2>/dev/null || echo "does not run here: install Python 3.12"
}

version() {
    "$1" -c 'import sys; print(sys.version.replace("\n", " "))' 2>/dev/null || echo none
}

# The first Python that will do; those that were tested come before newer ones.
find_python() {
    wrong=$(complaint "$python")
    [ -n "$wrong" ] || return 0
    if [ "$python" = python3 ]; then
        for other in python3.12 python3.11 python3.13 python3.14; do
            if [ -z "$(complaint "$other")" ]; then
                python=$other
                return 0
            fi
        done
    fi
    fail "needs Python 3.11 or newer, and $python $wrong, or name one: PYTHON=/path/to/python3.12"
}

[ -f pyproject.toml ] && [ -f constraints.txt ] || fail "run this from the root of the checkout"
[ -d src/mores/envs ] || fail "src/mores/envs is no link to a folder: this checkout turned links" \
    "into text files; clone again with: git clone -c core.symlinks=true"

made=$venv/mores-made
installed=$venv/mores-installed
sources="$(cksum <pyproject.toml) $(cksum <constraints.txt)"
case $venv in /*) place=$venv ;; *) place=$(pwd -P)/$venv ;; esac

# --- is it there, whole, and for this checkout? ---------------------------------------------------

have=none
if [ -d "$venv" ]; then
    have=$(version "$venv/bin/python")
    usable=yes
    [ "$have" != none ] || usable="its Python does not run"
    [ ! -f "$made" ] || [ "$(cat "$made")" = "$place" ] || usable="it was made elsewhere"
    [ ! -f "$made" ] || [ -f "$installed" ] || usable="it is half-made"
    if [ "$python" != python3 ] && [ "$have" != "$(version "$python")" ]; then
        find_python
        usable="it is of another Python than $python"
    fi
    if [ "$usable" != yes ]; then
        [ -f "$made" ] || fail "$venv cannot be used ($usable), and was not made here: move it away," \
            "or name another folder with VENV=..."
        rm -rf "$venv"
        have=none
    fi
fi

missing=$extras
if [ "$have" != none ] && [ -f "$installed" ]; then
    {
        read -r old_place || old_place=
        read -r old_python || old_python=
        read -r old_sources || old_sources=
        read -r old_extras || old_extras=
    } <"$installed"
    if [ "$old_place|$old_python|$old_sources" = "$(pwd -P)|$have|$sources" ]; then
        missing=
        for extra in $(echo "$extras" | tr , ' '); do
            case ",$old_extras," in *",$extra,"*) ;; *) missing=$missing,$extra ;; esac
        done
        [ -n "$missing" ] || exit 0
        extras=$old_extras$missing
    fi
fi

# --- make it, and install -------------------------------------------------------------------------

new=
if [ "$have" = none ]; then
    find_python
    mkdir -p "$venv" 2>/dev/null && [ -w "$venv" ] || fail "cannot write to $place"
    new=yes
fi
# Whatever happens to a first installation, nothing half-made stays behind.
give_up() {
    status=$?
    [ "$status" -eq 0 ] || [ -z "$new" ] || rm -rf "$venv"
    exit "$status"
}
trap give_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

if [ -n "$new" ]; then
    echo "$place" >"$made"
    echo '*' >"$venv/.gitignore"
    echo "setting up $venv with $python; the first time takes some minutes" >&2
    "$python" -m venv "$venv" || fail "$python -m venv $venv failed, see above"
    have=$(version "$venv/bin/python")
else
    echo "bringing $venv up to date" >&2
    [ -w "$venv" ] || fail "cannot write to $place"
    printf '' >"$installed"
fi
if ! "$venv/bin/python" -c 'import pip' 2>/dev/null; then # uv makes environments without pip
    "$venv/bin/python" -m ensurepip >/dev/null || fail "$venv has no pip, and cannot be given it"
fi
PIP_DISABLE_PIP_VERSION_CHECK=1 "$venv/bin/python" -m pip install -qq --no-input \
    -c constraints.txt -e ".[$extras]" </dev/null || fail "pip could not install mores, see above"
printf '%s\n' "$(pwd -P)" "$have" "$sources" "$extras" >"$installed"
