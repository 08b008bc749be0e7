"""A scenario of several short cells, and policies that end their process in the middle of one."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

from benchmarks.killed.histories import file_digests
from mores.experiments.run import RunResult, resume_run, run_scenario
from mores.experiments.scenario.loading import load_scenario
from mores.registry.plugins import load_plugins

ROOT = Path(__file__).resolve().parents[2]
SCENARIO = """\
name: small
about: A small community with and without a mirror.
env: {kind: coevolution, num_people: 12, noise_std: 0.1, ai_influence: 0.1}
rounds: 6
replicates: 5
trajectory: {worlds: 2}
metrics: [mean_value, rms_distance]
control: twin
arms:
  twin: {env.num_assistants: 0}
  mirror: {policies.assistant: {kind: mirror}}
  persuade: {policies.assistant: {kind: persuader, goal: [5, 5], goal_weight: 1.0}}
claims:
  - {statement: closer, kind: statistical, metric: rms_distance, arm: mirror, compare_to: twin,
     at_round: 3, bound: {below: 0}}
"""
# Cells write their name and the process of their node or job into a folder when they start.
MARKING = """\
import os
import signal
from pathlib import Path

import mores
from mores.agents.scripted.assistants import Mirror
from mores.core.current_cell import current_cell


@mores.register("policy", "{kind}")
class Marking(Mirror):
    folder: str

    def act(self, *arguments):
        if current_cell():
            self.mark(Path(self.folder), current_cell())
        return super().act(*arguments)

    def mark(self, folder, cell):
{body}
"""


# A cell in another process tells its process, and waits for a signal.
WAITING = """\
if {"RAY_RAYLET_PID", "SUBMITIT_EXECUTOR"} & os.environ.keys():
    with (folder / "pipe").open("w") as pipe:
        pipe.write(str(os.getpid()))
    while True:
        signal.pause()
"""


def run(folder: Path, text: str = SCENARIO, **options) -> RunResult:
    """Run a scenario into a folder."""
    file = folder.with_suffix(".yaml")
    file.write_text(text)
    return run_scenario(load_scenario(str(file)), folder, progress=False, **options)


def load_marking(folder: Path, kind: str, body: str) -> Path:
    """Load a file with a policy whose method `mark(folder, cell)` has this body; the file."""
    plugin = folder / f"{kind}.py"
    lines = "".join(f"        {line}\n" for line in body.splitlines())
    plugin.write_text(MARKING.format(kind=kind, body=lines))
    load_plugins([plugin])
    return plugin


def check_stop(folder: Path, launcher: list[str]) -> None:
    """SIGTERM ends a run and its cells elsewhere; the run that is resumed here has its bytes."""
    marks = folder / "marks"
    marks.mkdir()
    os.mkfifo(marks / "pipe")
    kind = f"waiting_{launcher[1]}"
    plugin = load_marking(folder, kind, WAITING)
    text = SCENARIO.replace("{kind: mirror}", f"{{kind: {kind}, folder: {marks}}}")
    expected = file_digests(run(folder / "one", text).folder)
    out = folder / "two"
    program = "import sys; from mores.cli.commands import main; sys.exit(main())"
    arguments = ["run", str(folder / "one.yaml"), "--out", str(out), "--load", str(plugin)]
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments, *launcher], stderr=subprocess.PIPE, text=True
    )
    worker = int((marks / "pipe").read_text())  # opens when the cell has started
    ended = os.pidfd_open(worker)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate()
    assert process.returncode == 128 + signal.SIGTERM, stderr
    assert "mores resume" in stderr
    assert select.select([ended], [], [], 60)[0], "the cell is still simulated"
    os.close(ended)
    assert json.loads((out / "status.json").read_text())["state"] == "stopped"
    resume_run(out, plugin_files=[plugin], progress=False)
    assert file_digests(out) == expected


def absolute_python_path() -> str:
    """The module search path of this checkout, for processes that start in other folders."""
    return os.pathsep.join([str(ROOT / "src"), str(ROOT)])
