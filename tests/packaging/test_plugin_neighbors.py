"""Files of `--load` import their neighbors, wherever the command runs."""

from __future__ import annotations

import os
import subprocess
import sysconfig
from pathlib import Path

import pytest

from tests.launchers.small_runs import SCENARIO, absolute_python_path

COMMAND = Path(sysconfig.get_path("scripts")) / "mores"
PLUGIN = """\
import mores
from neighbor_of_a_plugin import Neighbor


@mores.register("policy", "like_its_neighbor")
class Like(Neighbor):
    pass
"""
NEIGHBOR = "from mores.agents.scripted.assistants import Mirror as Neighbor\n"


@pytest.mark.parametrize(
    "command", ["check", pytest.param("run --jobs 2 --allow-undecided", marks=pytest.mark.full)]
)
def test_a_plugin_imports_its_neighbor(command: str, tmp_path: Path) -> None:
    """The installed command does not search its working directory, unlike `python -m mores`."""
    if not COMMAND.exists():
        pytest.skip("mores is not installed")
    mine, elsewhere = tmp_path / "mine", tmp_path / "elsewhere"
    mine.mkdir()
    elsewhere.mkdir()
    (mine / "plugin_with_neighbor.py").write_text(PLUGIN)
    (mine / "neighbor_of_a_plugin.py").write_text(NEIGHBOR)
    (mine / "s.yaml").write_text(SCENARIO.replace("kind: mirror", "kind: like_its_neighbor"))
    arguments = [*command.split(), "../mine/s.yaml", "--load", "../mine/plugin_with_neighbor.py"]
    done = subprocess.run(
        [str(COMMAND), *arguments],
        cwd=elsewhere,
        env={**os.environ, "PYTHONPATH": absolute_python_path()},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
