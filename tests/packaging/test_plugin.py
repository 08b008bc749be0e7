"""A plugin package: the parts of docs/how-to/plugins.md, installed, found by their entry points."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```\w+ file=(\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LISTED = """
import sys
from mores.experiments.scenario.catalog import list_entries
entries = {(entry.category, entry.name): entry.summary for entry in list_entries()}
for part in sys.argv[1:]:
    assert entries[tuple(part.split("/"))], part
assert "club" not in sys.modules and "torch" not in sys.modules
"""


@pytest.mark.full
def test_an_installed_package_is_used_by_a_scenario(tmp_path: Path) -> None:
    text = (ROOT / "docs/how-to/plugins.md").read_text("utf-8")
    files = dict(BLOCK.findall(text))
    package, work, site = tmp_path / "package", tmp_path / "work", tmp_path / "site"
    for folder in (package, work):
        folder.mkdir()
    for name, body in files.items():
        is_source = name in ("club.py", "pyproject.toml")
        (package if is_source else work).joinpath(name).write_text(body)
    options = ("--no-deps", "--no-build-isolation", "--quiet", "--target", str(site))
    _python(work, site, "-m", "pip", "install", *options, str(package))
    parts = re.findall(r'entry-points."mores\.(\w+)"\]\n(\w+) =', files["pyproject.toml"])
    assert len(parts) == 7
    _python(work, site, "-c", LISTED, *("/".join(part) for part in parts))
    _python(work, site, "-m", "mores", "check", "club.yaml")


def _python(folder: Path, site: Path, *arguments: str) -> None:
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{arguments}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
