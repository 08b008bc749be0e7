"""Every command and every block of code in the documents runs, as written, in a fresh folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# `make` sets up a machine: the checks themselves are started by it, see tests/packaging
ELSEWHERE = re.compile(r"^(make|git|pip|python -m pip|cd|\.) ")


def _documents() -> list[Path]:
    # The only page of the default run: it is short, and has blocks of every kind.
    first = ROOT / "docs/how-to/environment_text.md"
    pages = sorted({*(ROOT / "docs").rglob("*.md")} - {first})
    found = [first, ROOT / "README.md", *pages]
    return [path for path in found if path.exists() and "```" in path.read_text("utf-8")]


def _commands(block: str) -> list[str]:
    lines = [line[2:] for line in block.replace("\\\n", " ").splitlines() if line.startswith("$ ")]
    return [line for line in lines if not ELSEWHERE.match(line)]


def _run(command: list[str] | str, folder: Path) -> None:
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(folder),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        shell=isinstance(command, str),
        capture_output=True,
        text=True,
    )
    shown = f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    assert done.returncode == 0, shown


@pytest.mark.cut(100)
@pytest.mark.parametrize("document", _documents(), ids=lambda path: path.stem)
def test_document(document, tmp_path):
    scripts = 0
    for language, options, body in BLOCK.findall(document.read_text("utf-8")):
        named = re.search(r"file=(\S+)", options)
        if named:
            (tmp_path / named[1]).write_text(body)
        elif language == "console":
            for command in _commands(body):
                _run(command, tmp_path)
                scripts += 1
        elif language == "python":
            _run([sys.executable, "-c", body], tmp_path)
            scripts += 1
        else:
            assert language in ("text", "yaml", "bibtex"), f"how is a block of {language} tested?"
    assert scripts or "tutorials" not in document.parts


def test_the_tutorial_keeps_its_promise():
    text = (ROOT / "docs/tutorials/your_own_environment.md").read_text("utf-8")
    environment = next(body for _, options, body in BLOCK.findall(text) if "norm.py" in options)
    assert len(environment.splitlines()) <= 60
