"""Estimate, before a run, of the number of requests to language models and of their tokens.

The first `MAX_ROUNDS` rounds of one world of every cell are simulated with the check versions of
the policies (`Policy.check_version`), whose tiny model has one token per byte. Every later round is
assumed to use as much as the last simulated one. Bytes are converted to tokens at 4 bytes per
token, roughly the value of common tokenizers for English text. Replies count with their maximum
length.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from mores.experiments.scenario.cell import BuiltCell
from mores.experiments.scenario.specification import Scenario
from mores.sim.simulator import Simulator

REQUESTS = "requests"
COUNTED = (REQUESTS, "prompt_tokens", "reply_tokens")
BYTES_PER_TOKEN = 4
MAX_ROUNDS = 4  # largest number of simulated rounds


@dataclasses.dataclass(frozen=True)
class RequestEstimate:
    """Number of requests of a run and of their tokens; 0 without language models.

    Attributes:
        requests: number of requests.
        prompt_tokens: estimated number of tokens of prompts.
        reply_tokens: upper bound of the number of generated tokens.
    """

    requests: float = 0.0
    prompt_tokens: float = 0.0
    reply_tokens: float = 0.0

    def __str__(self) -> str:
        return (
            f"{self.requests:,.0f} requests to language models, about {self.prompt_tokens:,.0f} "
            f"prompt tokens and at most {self.reply_tokens:,.0f} reply tokens"
        )


def estimate_requests(scenario: Scenario, cells: Iterable[BuiltCell]) -> RequestEstimate:
    """Estimate for all cells of a run."""
    counts: dict[str, float] = dict.fromkeys(COUNTED, 0.0)
    # Counts of one world and episode, by the identity of environment and policies.
    episode_counts: dict[tuple[int, ...], dict[str, float]] = {}
    for built in cells:
        replicates = built.cell.own_replicates(scenario, range(scenario.replicates))
        worlds = len(replicates) * scenario.worlds
        for index, stage in enumerate(built.stages):
            if stage.stage.loop == "fit_offline":
                continue
            key = (stage.rounds, id(stage.environment), *map(id, stage.policies.values()))
            if key not in episode_counts:
                episode_counts[key] = _counts_of_episode(scenario, built, index)
            for name, count in episode_counts[key].items():
                counts[name] += count * worlds * stage.stage.episodes
    requests, prompt_bytes, reply_tokens = (counts[name] for name in COUNTED)
    return RequestEstimate(requests, prompt_bytes / BYTES_PER_TOKEN, reply_tokens)


def _counts_of_episode(scenario: Scenario, built: BuiltCell, stage_index: int) -> dict[str, float]:
    """Requests and tokens (bytes) of one episode of one world, with the check versions."""
    stage = built.stages[stage_index]
    policies = stage.policies_to_check()
    counted = {role: policy for role, policy in policies.items() if REQUESTS in policy.metric_names}
    if not counted:
        return {}
    simulator = Simulator(
        stage.environment,
        policies,
        worlds=[0],
        rounds=stage.rounds,
        population=built.population,
        stage=stage_index,
        roles_to_train=(),
    )
    simulator.reset(scenario.seed)
    totals: list[dict[str, float]] = [dict.fromkeys(COUNTED, 0.0)]
    for _ in range(min(stage.rounds, MAX_ROUNDS)):
        if simulator.all_finished:
            break
        simulator.step()
        metrics = [p.metrics(simulator.policy_states[role]) for role, p in counted.items()]
        totals.append({n: sum(float(m[n].sum()) for m in metrics if n in m) for n in totals[0]})
    simulated = len(totals) - 1
    if not simulated:
        return {}
    remaining = 0 if simulator.all_finished else stage.rounds - simulated
    return {name: last + remaining * (last - totals[-2][name]) for name, last in totals[-1].items()}
