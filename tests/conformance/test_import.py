"""`import mores` is light, knows its names, and says so where links are missing."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import mores
from tests.conformance.games import SHIPPED
from tests.refusals import check_message

HEAVY = [
    "torch",
    "jaxtyping",
    "scipy",
    "matplotlib",
    "pandas",
    "xarray",
    "zarr",
    "networkx",
    "pyarrow",
    "torchrl",
    "tensordict",
    "transformers",
    "typer",
    "jinja2",
]


def python(code: str, **kwargs: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, **kwargs
    )  # type: ignore[call-overload]


def test_import_is_light() -> None:
    """What is heavy is not there after the import, and is when it is used."""
    code = (
        "import sys, gymnasium, pettingzoo, mores\n"
        f"heavy = {HEAVY!r}\n"
        "print([name for name in heavy if name in sys.modules])\n"
        "registries = gymnasium.registry, pettingzoo.parallel_registry, pettingzoo.aec_registry\n"
        "print([sum(name.startswith('mores/') for name in known) for known in registries])\n"
        "mores.Simulator\n"
        "print('torch' in sys.modules)\n"
    )
    done = python(code)
    assert done.returncode == 0, done.stderr
    kinds = len(SHIPPED)
    assert done.stdout.splitlines() == ["[]", f"{[kinds] * 3}", "True"]
    assert done.stderr == ""


@pytest.mark.parametrize("name", mores.__all__)
def test_every_name_is_there(name: str) -> None:
    found = getattr(mores, name)
    assert callable(found) or name == "__version__"
    assert name in dir(mores)
    assert getattr(mores, name) is found


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="'VectorEnv'"):
        mores.VectorEnvs  # noqa: B018
    assert not hasattr(mores, "nothing_like_it")


def test_play_is_the_function_whatever_was_imported_before() -> None:
    """The module of that name is still there to import from."""
    code = (
        "import mores.sim.simulation\n"
        "from mores.sim.simulation import SimulationResult\n"
        "import mores, types\n"
        "assert isinstance(mores.simulate, types.FunctionType)\n"
        "game = mores.make_environment('lock_in', people=2)\n"
        "assert isinstance(mores.simulate(game, rounds=2), Played)\n"
    )
    done = python(code)
    assert done.returncode == 0, done.stderr


def test_torchrl_is_an_extra() -> None:
    """Without it, one line says what to install; the rest of mores works."""
    code = (
        "import sys\n"
        "sys.modules['torchrl'] = None\n"  # as if it were not installed
        "import mores\n"
        "mores.PettingZooParallelEnv('lock_in', people=2).reset()\n"
        "try:\n"
        "    mores.TorchRLEnv\n"
        "except mores.UserError as error:\n"
        "    print(error.code, error.path)\n"
        "    print(error)\n"
    )
    done = python(code)
    assert done.returncode == 0, done.stderr
    kind, line = done.stdout.splitlines()
    assert kind == "not_installed torchrl"
    check_message(re.sub(r"\(.*\)", "(what Python says)", line))


def test_links_that_are_text_files_are_named(tmp_path: Path) -> None:
    """As a checkout without symbolic links has them."""
    package = tmp_path / "mores"
    package.mkdir()
    shutil.copy(Path(mores.__file__), package / "__init__.py")
    (package / "envs").write_text("../../envs")
    done = python("import mores", cwd=tmp_path)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: mores/envs ")
    check_message(last)
