"""Small scenarios to calibrate, and how one is made from text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mores.experiments.scenario.loading import LoadedScenario, load_scenario

WALKERS = """\
name: walkers # a comment that stays
about: People walk at random.
env: {kind: coevolution, assistants: 0, values: 1, noise: 0.3}
people: {kind: normal, people: 60, spread: 1.0}
rounds: 3
replicates: 32
measures: [spread, speed]
calibration:
  parameters: {people.spread: [0.2, 3.0], env.noise: [0.02, 1.0]}
  targets:
    - {says: at first, measure: spread, at: 0, value: 1.0}
    - {says: later, measure: spread, at: 1, value: 1.05}
    - {says: at last, measure: spread, value: 1.15}
"""
CHOOSERS = """\
name: choosers
about: People choose between two options.
env: {kind: pairs, people: 200, margins: [0.5, 1.0, 2.0, 6.0]}
players: {person: {kind: chooser, rationality: 1.0, scale: 1.0, flip: 0.1}}
rounds: 2
replicates: 40
measures: [picked]
calibration:
  parameters: {players.person.rationality: [0.3, 3.0], players.person.flip: [0.0, 0.3]}
  targets:
    - {says: small, measure: "picked[0]", value: 0.60}
    - {says: middle, measure: "picked[1]", value: 0.68}
    - {says: large, measure: "picked[2]", value: 0.80}
    - {says: very large, measure: "picked[3]", value: 0.90}
"""
EXPERIMENT = """\
name: experiment
about: A community with a persuader, against another without one.
env: {kind: coevolution, people: 60, values: 1, ai_influence: 0.1, noise: 0.2}
people: {kind: normal, people: 60, spread: 1.0}
players: {assistant: {kind: persuade, goal: [2.0], reach: 1.0}}
rounds: 2
replicates: 24
measures: [centre, spread]
control: twin
arms:
  twin: {env.assistants: 0}
  persuaded: {}
calibration:
  parameters: {env.ai_influence: [0.02, 0.5]}
  targets:
    - {says: effect, measure: "centre[0]", arm: persuaded, against: twin, value: 0.3}
    - {says: spread, measure: spread, value: 1.0, error: 0.1, held_out: true, source: another}
"""


@pytest.fixture
def described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., LoadedScenario]:
    """A scenario from its text, with overrides, in an empty working directory."""
    monkeypatch.chdir(tmp_path)

    def made(text: str, *overrides: str) -> LoadedScenario:
        Path("s.yaml").write_text(text)
        return load_scenario("s.yaml", overrides)

    return made
