"""`import mores`: light, complete, picklable, and with a clear error where links are missing."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cloudpickle
import pytest

import mores
from tests.conformance.environments import SHIPPED
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
    "mesa",
    "typer",
    "jinja2",
]


def python(code: str, **kwargs: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, **kwargs)  # type: ignore[call-overload]


def test_import_is_light() -> None:
    """Heavy libraries are imported at their first use."""
    code = (
        "import sys, gymnasium, pettingzoo, mores\n"
        f"heavy = {HEAVY!r}\n"
        "print([name for name in heavy if name in sys.modules])\n"
        "registries = gymnasium.registry, pettingzoo.parallel_registry, pettingzoo.aec_registry\n"
        "print([sum(name.startswith('mores/') for name in known) for known in registries])\n"
        "mores.Simulator\n"
        "print('torch' in sys.modules)\n"
    )
    process = python(code)
    assert process.returncode == 0, process.stderr
    assert process.stdout.splitlines() == ["[]", f"{[len(SHIPPED)] * 3}", "True"]
    assert process.stderr == ""


@pytest.mark.parametrize("name", mores.__all__)
def test_public_names(name: str) -> None:
    """A public name is loaded lazily, and would hide a submodule of the same name."""
    value = getattr(mores, name)
    assert callable(value)
    assert name in dir(mores)
    assert getattr(mores, name) is value
    assert importlib.util.find_spec(f"mores.{name}") is None


def test_an_unknown_public_name() -> None:
    with pytest.raises(AttributeError, match="'GymnasiumEnv'"):
        mores.GymnasiumEnvs  # noqa: B018
    assert not hasattr(mores, "nothing_like_it")


def test_mores_is_picklable() -> None:
    """Ray and Stable-Baselines3 send functions that use `mores` to other processes."""
    assert cloudpickle.loads(cloudpickle.dumps(mores)) is mores
    function = cloudpickle.loads(cloudpickle.dumps(lambda: mores.make_policy("random")))
    assert function() == mores.make_policy("random")


def test_simulate_is_a_function_after_any_import() -> None:
    code = (
        "import mores.sim.simulation\n"
        "from mores.sim.simulation import SimulationResult\n"
        "import mores, types\n"
        "assert isinstance(mores.simulate, types.FunctionType)\n"
        "environment = mores.make_environment('lock_in', num_people=2)\n"
        "assert isinstance(mores.simulate(environment, rounds=2), SimulationResult)\n"
    )
    process = python(code)
    assert process.returncode == 0, process.stderr


@pytest.mark.full
def test_torchrl_is_an_extra() -> None:
    """Without it, the error names the extra to install; the rest of mores works."""
    code = (
        "import sys\n"
        "sys.modules['torchrl'] = None\n"  # as if it were not installed
        "import mores\n"
        "mores.PettingZooParallelEnv('lock_in', num_people=2).reset()\n"
        "try:\n"
        "    mores.TorchRLEnv\n"
        "except mores.UserError as error:\n"
        "    print(error.code, error.path)\n"
        "    print(error)\n"
    )
    process = python(code)
    assert process.returncode == 0, process.stderr
    kind, line = process.stdout.splitlines()
    assert kind == "not_installed torchrl"
    check_message(re.sub(r"\(.*\)", "(message of Python)", line))


def test_links_that_are_text_files_are_an_error(tmp_path: Path) -> None:
    """As in a checkout without symbolic links."""
    package = tmp_path / "mores"
    package.mkdir()
    shutil.copy(Path(mores.__file__), package / "__init__.py")
    (package / "envs").write_text("../../envs")
    process = python("import mores", cwd=tmp_path)
    assert process.returncode == 1
    last = process.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: mores/envs ")
    check_message(last)
