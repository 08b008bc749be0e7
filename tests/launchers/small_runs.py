"""A scenario of several short cells, and policies that end their process in the middle of one."""

from __future__ import annotations

import os
from pathlib import Path

from mores.experiments.run import RunResult, run_scenario
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


def absolute_python_path() -> str:
    """The module search path of this checkout, for processes that start in other folders."""
    return os.pathsep.join([str(ROOT / "src"), str(ROOT)])
