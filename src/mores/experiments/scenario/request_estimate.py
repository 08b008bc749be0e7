"""Estimate, before a run, of the requests to language models and of their tokens.

A few rounds of one world of every cell are simulated with the check versions of the policies
(`Policy.check_version`), whose tiny model has a token for each byte. The last simulated round
stands for all later ones. Real tokenizers have about four bytes of English text in a token; replies
are counted at their largest length.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from mores.experiments.scenario.cell import BuiltCell
from mores.experiments.scenario.specification import Scenario
from mores.sim.simulator import Simulator

REQUESTS, PROMPT_TOKENS, REPLY_TOKENS = "requests", "prompt_tokens", "reply_tokens"
BYTES_PER_TOKEN = 4
MAX_ROUNDS = 4  # simulated


@dataclasses.dataclass(frozen=True)
class RequestEstimate:
    """Requests of a run and their tokens; without language models 0.

    Attributes:
        requests: number of requests.
        prompt_tokens: tokens of conversations.
        reply_tokens: largest number of generated tokens.
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
    """The requests of all cells of a run."""
    counts = dict.fromkeys((REQUESTS, PROMPT_TOKENS, REPLY_TOKENS), 0.0)
    known: dict[tuple[int, ...], dict[str, float]] = {}  # of a world and episode, by objects
    for built in cells:
        replicates = built.cell.own_replicates(scenario, range(scenario.replicates))
        worlds = len(replicates) * scenario.worlds
        for index, stage in enumerate(built.stages):
            if stage.stage.loop == "fit_offline":
                continue
            key = (stage.rounds, id(stage.environment), *map(id, stage.policies.values()))
            if key not in known:
                known[key] = _counts_of_episode(scenario, built, index)
            for name, count in known[key].items():
                counts[name] += count * worlds * stage.stage.episodes
    return RequestEstimate(
        counts[REQUESTS],
        counts[PROMPT_TOKENS] / BYTES_PER_TOKEN,
        counts[REPLY_TOKENS],
    )


def _counts_of_episode(scenario: Scenario, built: BuiltCell, stage_index: int) -> dict[str, float]:
    """Requests and tokens of the check versions in one world's episode."""
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
    totals: list[dict[str, float]] = [dict.fromkeys((REQUESTS, PROMPT_TOKENS, REPLY_TOKENS), 0.0)]
    for _ in range(min(stage.rounds, MAX_ROUNDS)):
        if simulator.all_finished:
            break
        simulator.step()
        metrics = [p.metrics(simulator.policy_states[role]) for role, p in counted.items()]
        totals.append({n: sum(float(m[n].sum()) for m in metrics if n in m) for n in totals[0]})
    simulated = len(totals) - 1
    if not simulated:
        return {}
    missing = 0 if simulator.all_finished else stage.rounds - simulated
    return {name: last + missing * (last - totals[-2][name]) for name, last in totals[-1].items()}
