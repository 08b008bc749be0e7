"""Estimate, before a run, of the number of requests to language models and of their tokens.

The first `MAX_ROUNDS` rounds of one world of every cell are simulated with the check versions of
the policies (`Policy.check_version`), whose tiny model has one token per byte. Every later round is
assumed to use as much as the last simulated one. Bytes are converted to tokens at 4 bytes per
token, roughly the value of common tokenizers for English text; tokens of policies that are their
own check version, such as those with a tiny model, are counted. Replies count with their maximum
length.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from mores.core.policy import Policy
from mores.experiments.scenario.cell import BuiltCell
from mores.experiments.scenario.specification import Scenario
from mores.sim.simulator import Simulator

REQUESTS = "requests"
PROMPT_TOKENS = "prompt_tokens"
COUNTED: tuple[str, ...] = (REQUESTS, PROMPT_TOKENS, "reply_tokens")
BYTES_PER_TOKEN = 4
MAX_ROUNDS = 4  # largest number of simulated rounds


@dataclasses.dataclass(frozen=True)
class RequestEstimate:
    """Number of requests of a run and of their tokens; 0 without language models.

    Attributes:
        requests: number of requests.
        prompt_tokens: estimated number of tokens of prompts.
        reply_tokens: upper bound of the number of generated tokens.
        from_bytes: whether tokens of prompts are bytes over `BYTES_PER_TOKEN`.
    """

    requests: float = 0.0
    prompt_tokens: float = 0.0
    reply_tokens: float = 0.0
    from_bytes: bool = False

    def __str__(self) -> str:
        assumed = f" (of {BYTES_PER_TOKEN} bytes)" if self.from_bytes else ""
        return (
            f"{self.requests:,.0f} requests to language models, about {self.prompt_tokens:,.0f} "
            f"prompt tokens{assumed} and at most {self.reply_tokens:,.0f} reply tokens"
        )


def estimate_requests(scenario: Scenario, cells: Iterable[BuiltCell]) -> RequestEstimate:
    """Estimate for all cells of a run."""
    counts, from_bytes = dict.fromkeys(COUNTED, 0.0), False
    # Counts of one world and episode, by the identity of environment and policies.
    episode_counts: dict[tuple[int, ...], dict[str, float]] = {}
    for built in cells:
        replicates = built.cell.own_replicates(scenario, range(scenario.replicates))
        worlds = len(replicates) * scenario.worlds
        for index, stage in enumerate(built.stages):
            if stage.stage.loop == "fit_offline":
                continue
            from_bytes |= any(
                REQUESTS in policy.metric_names and not _counts_own_tokens(policy)
                for policy in stage.policies.values()
            )
            key = (stage.rounds, id(stage.environment), *map(id, stage.policies.values()))
            if key not in episode_counts:
                episode_counts[key] = _counts_of_episode(scenario, built, index)
            for name, count in episode_counts[key].items():
                counts[name] += count * worlds * stage.stage.episodes
    requests, prompt_tokens, reply_tokens = (counts[name] for name in COUNTED)
    return RequestEstimate(requests, prompt_tokens, reply_tokens, from_bytes)


def _counts_own_tokens(policy: Policy) -> bool:
    """Whether the check simulates the policy itself, with the tokens of its own model."""
    return policy.check_version() is policy


def _counts_of_episode(scenario: Scenario, built: BuiltCell, stage_index: int) -> dict[str, float]:
    """Requests and tokens of one episode of one world, with the check versions."""
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
    divisors = {
        role: 1 if _counts_own_tokens(stage.policies[role]) else BYTES_PER_TOKEN for role in counted
    }
    totals: list[dict[str, float]] = [dict.fromkeys(COUNTED, 0.0)]
    for _ in range(min(stage.rounds, MAX_ROUNDS)):
        if simulator.all_finished:
            break
        simulator.step()
        total: dict[str, float] = dict.fromkeys(COUNTED, 0.0)
        for role, policy in counted.items():
            values = policy.metrics(simulator.policy_states[role])
            for name in total.keys() & values.keys():
                divisor = divisors[role] if name == PROMPT_TOKENS else 1
                total[name] += float(values[name].sum()) / divisor
        totals.append(total)
    simulated = len(totals) - 1
    if not simulated:
        return {}
    remaining = 0 if simulator.all_finished else stage.rounds - simulated
    return {name: last + remaining * (last - totals[-2][name]) for name, last in totals[-1].items()}
