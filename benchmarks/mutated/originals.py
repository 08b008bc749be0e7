"""Scenario texts to mutate: the bundled scenarios, and texts with every section and claim kind."""

from __future__ import annotations

import copy
import functools
from random import Random
from typing import Any

from mores.experiments.scenario.loading import bundled_scenarios
from mores.experiments.scenario.strict_yaml import dump, parse

MAX_CLAIMS, MAX_METRICS = 2, 4  # of a shortened scenario
NUM_SHORTENED = 30  # texts of each original

UNCERTAIN = """\
name: uncertain
about: "Uncertain parameters, a sensitivity analysis, and claims over their ranges."
source: arXiv 2506.06160
construct: attitude
env: {kind: coevolution, num_people: 6, initial_std: 0.1, trait_state: {half_life: 2}}
policies: {assistant: {kind: persuader, goal: [1.0], goal_weight: 1.0}}
population: {kind: normal, num_people: 6}
rounds: 2
replicates: 3
record_every: 2
trajectory: {worlds: 0}
metrics: [mean_value, drift, {kind: hill_number, name: diversity}]
control: twin
arms: {twin: {env.num_assistants: 0}, persuaded: {}}
uncertainty:
  parameters: {env.ai_influence: [0.2, 0.6], policies.assistant.goal_weight: [0.5, 1]}
  replicates: 2
  draws: 40
  sensitivity: {method: sobol, num_samples: 4, metric: effect_vs_control, arm: persuaded}
claims:
  - statement: It moves them
    kind: statistical
    metric: effect_vs_control
    arm: persuaded
    interval: parameters
    bound: {above: 0}
  - {statement: It is reported, kind: report, metric: mean_value, compare_to: persuaded}
  - {statement: It differs, kind: by_construction, metric: drift, arm: persuaded, relative: true,
     compare_to: twin, at_round: 1, smallest_effect: 0.5, bound: {differs_from: 1}}
"""

STAGES = """\
# stages, claims that training causes, and a claim of an exact solver
name: stages
about: >
  Players learn in one stage
  and are tested in the next.
env:
  kind: matrix_game
policies:
  player: {kind: ppo, num_steps: 2, learning_rate: 0.01}
rounds: 4
replicates: 2
worlds: 2
seed: 7
metrics: [cooperation_rate]
arms:
  learned: {}
  still: {policies.player.learning_rate: 0}
control: still
stages:
  - {name: training, loop: train, roles_to_train: [player], episodes: 2, rounds: 4}
  - name: test
    loop: search
    rounds: 2
    policies: {policies.player.gamma: 0.5}
claims:
  - {statement: They learn, kind: learned, metric: cooperation_rate, arm: learned, ablation: still,
     stage: test, bound: {within: [0.0, 1.0]}}
  - {statement: Exactly, kind: exact, metric: cooperation_rate, stage: test, bound: {below: 2}}
  - {statement: As solved, kind: reward_implied, metric: cooperation_rate,
     analytic: max_mean_payoff, statistic: mean, bound: {within: [-1, 1]}, source: "section 3"}
"""

SWEEP = """\
name: sweep
about: A sweep over two parameters and a calibration.
env: {kind: lock_in, num_people: 5, trust_in_people: 0.1}
rounds: 3
replicates: 2
metrics: ai_error
sweep:
  env.trust_in_ai: [0.05, 0.1, 0.4]
  env.num_people: [4, 5]
claims:
  - {statement: It is small, kind: statistical, metric: ai_error, bound: {below: 100}}
"""

CALIBRATED = """\
name: calibrated
about: Parameters that are fitted to figures.
env: {kind: panel, num_people: 12, initial_std: 1.7, trait_state: {half_life: 0.5}}
policies: {person: {kind: survey_respondent, noise_std: 1.0, low: 0, high: 7, option_spacing: 1}}
rounds: 37
record_every: 37
replicates: 2
metrics: [icc, answer_std]
calibration:
  parameters: {env.initial_std: [0.8, 3.0], env.trait_state.volatility: [0.2, 2.5]}
  targets:
    - {statement: spread, metric: answer_std, value: 1.81, source: panel}
    - {statement: correlation, metric: icc, value: 0.58, standard_error: 0.1, at_round: 37}
    - {statement: held out, metric: icc, value: 0.5, held_out: true}
"""

GRAPHS = """\
name: graphs
about: People on random graphs, and on a graph of a file that does not exist.
env:
  kind: coevolution
  num_people: 12
  peers:
    rule: {kind: friedkin_johnsen}
    graph: {kind: networkx, generator: watts_strogatz, parameters: {k: 4, p: 0.1}, graph_seed: 2}
rounds: 2
replicates: 2
metrics: [mean_value, rms_distance]
arms:
  main: {}
  world: {env.peers.graph.per_world: true}
  homophily: {env.peers.graph: {kind: homophily}}
claims: []
"""

SECTIONS = {
    "graphs": GRAPHS,
    "uncertain": UNCERTAIN,
    "stages": STAGES,
    "sweep": SWEEP,
    "calibrated": CALIBRATED,
}


@functools.cache
def originals() -> dict[str, str]:
    """Texts by name."""
    bundled = {n: file.read_text(encoding="utf-8") for n, file in bundled_scenarios().items()}
    return SECTIONS | bundled


@functools.cache
def original_document(name: str) -> dict[str, Any]:
    """Content of an original; the caller must not modify it."""
    return parse(originals()[name], name).document


def shortened(name: str, rng: Random) -> dict[str, Any]:
    """A copy of an original with few claims, arms, metrics and targets, chosen at random.

    Arms that the control and the claims name are kept.
    """
    document = copy.deepcopy(original_document(name))
    claims = document.get("claims", [])
    document["claims"] = rng.sample(claims, min(MAX_CLAIMS, len(claims)))
    calibration = document.get("calibration")
    if calibration and rng.random() < 0.5:
        del document["calibration"]
        calibration = None
    named = {document.get("control")}
    for entry in [*document["claims"], *(calibration or {}).get("targets", [])]:
        named |= {entry.get(key) for key in ("arm", "compare_to", "ablation")}
    sensitivity = (document.get("uncertainty") or {}).get("sensitivity") or {}
    named |= {sensitivity.get("arm"), sensitivity.get("compare_to")}
    if arms := document.get("arms"):
        first = list(arms)[:1]
        document["arms"] = {arm: arms[arm] for arm in arms if arm in named or arm in first}
    if isinstance(document["metrics"], list):
        used = [str(claim["metric"]).partition("[")[0] for claim in document["claims"]]
        others = [metric for metric in document["metrics"] if metric not in used]
        kept = rng.sample(others, min(MAX_METRICS, len(others)))
        document["metrics"] = [m for m in document["metrics"] if m in used or m in kept]
    return document


@functools.cache
def shortened_text(name: str, index: int) -> str:
    """One of `NUM_SHORTENED` shortened copies as a file."""
    return as_text(shortened(name, Random(index)))


def tiny(name: str, rng: Random) -> dict[str, Any]:
    """A shortened copy that a check simulates in little time."""
    document = shortened(name, rng)
    document.pop("calibration", None)
    document["replicates"] = 2
    document["worlds"] = min(2, document.get("worlds", 1))
    if name not in ("calibrated_people", "calibrated", "repeated_dilemma"):  # need more rounds
        document["rounds"] = min(6, document["rounds"])
        for claim in document["claims"]:
            claim.pop("at_round", None)
        for stage in document.get("stages", []):
            stage.pop("rounds", None)
            stage["episodes"] = 1
    document.pop("record_every", None)
    people = document["env"].get("num_people")
    if isinstance(people, int) and name != "karate":
        document["env"]["num_people"] = min(8, people)
    return document


def as_text(document: Any) -> str:
    """The document as a file."""
    return dump(document)
