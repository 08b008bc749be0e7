"""Calls of engines by policies that act together: one call for all agents of a phase.

A policy that uses an engine acts in steps (`StepwisePolicy.act_steps`): it yields the calls that it
needs and continues with their results. `act_together` runs several such policies at once and joins
calls of the same engine, so that agents of one model share its batches whatever policies they have.
A result depends on its request alone, so that joining changes the cost and not the results.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mores.agents.language.language_model import (
    Engine,
    GenerateRequest,
    GumbelFunction,
    Reply,
    Score,
    ScoreRequest,
)
from mores.core.environment import Phase
from mores.core.policy import ActionOutput
from mores.core.random_streams import RandomStreams


@dataclasses.dataclass(frozen=True)
class ScoreCall:
    """Requests to score given texts."""

    engine: Engine
    requests: Sequence[ScoreRequest]


@dataclasses.dataclass(frozen=True)
class GenerateCall:
    """Requests to generate replies, with the Gumbel numbers of the requests' indices."""

    engine: Engine
    requests: Sequence[GenerateRequest]
    gumbel: GumbelFunction


EngineCall = ScoreCall | GenerateCall
ActSteps = Generator[EngineCall, list[Any], ActionOutput]  # sends lists of `Score` or `Reply`


@runtime_checkable
class StepwisePolicy(Protocol):
    """A policy that acts with calls of engines."""

    def act_steps(
        self,
        phase: Phase,
        observation: Float[Tensor, "world agent size"],
        action_mask: Bool[Tensor, "world agent option"] | None,
        state: Any,
        streams: RandomStreams,
        finished: Bool[Tensor, " world"] | None = None,
    ) -> ActSteps:
        """`Policy.act` in steps. `finished`: worlds whose actions are not used; `None`: none."""
        ...


def act_together(policies: Sequence[ActSteps]) -> list[ActionOutput]:
    """Outputs of policies that act in steps, with joint calls of the same engine."""
    outputs: dict[int, ActionOutput] = {}
    sent: dict[int, list[Any] | None] = dict.fromkeys(range(len(policies)))
    while sent:
        calls: dict[int, EngineCall] = {}
        for index, results in sent.items():
            steps = policies[index]
            try:
                calls[index] = next(steps) if results is None else steps.send(results)
            except StopIteration as stop:
                outputs[index] = stop.value
        sent = {**_results(calls)}
    return [outputs[index] for index in range(len(policies))]


def _results(calls: dict[int, EngineCall]) -> dict[int, list[Any]]:
    """Results of calls by their index; calls of one engine and kind are made as one."""
    joint: dict[tuple[int, type], list[int]] = {}
    for index, call in calls.items():
        joint.setdefault((id(call.engine), type(call)), []).append(index)
    found: dict[int, list[Any]] = {}
    for (_, kind), indices in joint.items():
        results: list[Any]
        if kind is ScoreCall:
            results = _scores([calls[index] for index in indices])  # type: ignore[misc]
        else:
            results = _replies([calls[index] for index in indices])  # type: ignore[misc]
        start = 0
        for index in indices:
            end = start + len(calls[index].requests)
            found[index], start = results[start:end], end
    return found


def _scores(calls: Sequence[ScoreCall]) -> list[Score]:
    """Scores of the requests of all calls."""
    return score_all(calls[0].engine, [request for call in calls for request in call.requests])


def score_all(engine: Engine, requests: Sequence[ScoreRequest]) -> list[Score]:
    """Scores of all requests in one call of the engine; equal ones are computed once."""
    unique = list(dict.fromkeys(requests))
    scores = dict(zip(unique, engine.score(unique), strict=True)) if unique else {}
    return [scores[request] for request in requests]


def _replies(calls: Sequence[GenerateCall]) -> list[Reply]:
    """Replies to all requests, each with the Gumbel numbers of its call."""
    requests = [request for call in calls for request in call.requests]
    owners = [(c, i) for c, call in enumerate(calls) for i in range(len(call.requests))]

    def gumbel(indices: Sequence[int], position: int) -> Tensor:
        rows: dict[int, list[tuple[int, int]]] = {}  # by call: row of the result, index in the call
        for row, index in enumerate(indices):
            call, own_index = owners[index]
            rows.setdefault(call, []).append((row, own_index))
        parts = [calls[c].gumbel([i for _, i in own], position) for c, own in rows.items()]
        order = torch.tensor([row for own in rows.values() for row, _ in own])
        joined = torch.cat(parts)
        return torch.empty_like(joined).index_copy_(0, order.to(joined.device), joined)

    if not requests:
        return []
    function = calls[0].gumbel if len(calls) == 1 else gumbel
    return calls[0].engine.generate(requests, function)
