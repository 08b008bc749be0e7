"""Small scenarios with a calibration, and a fixture that loads them from text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mores.experiments.scenario.loading import LoadedScenario, load_scenario

RANDOM_WALK = """\
name: random_walk # a comment that stays
about: Values follow a random walk.
env: {kind: coevolution, human: idealised, num_assistants: 0, num_values: 1, noise_std: 0.3}
population: {kind: normal, num_people: 60, std: 1.0}
rounds: 3
replicates: 32
metrics: [rms_distance, velocity]
calibration:
  parameters: {population.std: [0.2, 3.0], env.noise_std: [0.02, 1.0]}
  targets:
    - {statement: initial, metric: rms_distance, at_round: 0, value: 1.0}
    - {statement: later, metric: rms_distance, at_round: 1, value: 1.05}
    - {statement: final, metric: rms_distance, value: 1.15}
"""
CHOICES = """\
name: choices
about: People choose between two options.
env: {kind: pairwise_preferences, num_people: 200, margins: [0.5, 1.0, 2.0, 6.0]}
policies: {person: {kind: annotator, choice: {kind: boltzmann_choice, flip_probability: 0.1}}}
rounds: 2
replicates: 40
metrics: [choice_accuracy_by_margin]
calibration:
  parameters:
    policies.person.choice.rationality: [0.3, 3.0]
    policies.person.choice.flip_probability: [0.0, 0.3]
  targets:
    - {statement: small, metric: "choice_accuracy_by_margin[0]", value: 0.60}
    - {statement: middle, metric: "choice_accuracy_by_margin[1]", value: 0.68}
    - {statement: large, metric: "choice_accuracy_by_margin[2]", value: 0.80}
    - {statement: very large, metric: "choice_accuracy_by_margin[3]", value: 0.90}
"""
EXPERIMENT = """\
name: experiment
about: A community with a persuader against a control without one.
env: {kind: coevolution, human: idealised, num_people: 60, num_values: 1, ai_influence: 0.1,
  noise_std: 0.2}
population: {kind: normal, num_people: 60, std: 1.0}
policies: {assistant: {kind: persuader, goal: [2.0], goal_weight: 1.0}}
rounds: 2
replicates: 24
metrics: [mean_value, rms_distance]
control: twin
arms: {twin: {env.num_assistants: 0}, persuaded: {}}
calibration:
  parameters: {env.ai_influence: [0.02, 0.5]}
  targets:
    - {statement: effect, metric: "mean_value[0]", arm: persuaded, compare_to: twin, value: 0.3}
    - {statement: sd, metric: rms_distance, value: 1, standard_error: .1, held_out: true, source: b}
"""


@pytest.fixture
def load_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., LoadedScenario]:
    """Function that loads a scenario from text with overrides, in an empty directory."""
    monkeypatch.chdir(tmp_path)

    def load(text: str, *overrides: str) -> LoadedScenario:
        Path("s.yaml").write_text(text)
        return load_scenario("s.yaml", overrides)

    return load
