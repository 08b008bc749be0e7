"""Deciding with a search: the loop `assist`, in which nobody learns.

Both searches imagine what follows by `mores.core.environment.Role.after`, where one's next sight follows from
one's own act, and judge it by the value head:

    best_of       draws candidates from the policy, and takes the one that promises most
    look_ahead    weighs the likeliest options, played on greedily for some acts (DeAL, 2402.06147),
                  by log-probability plus weight times what the value head expects there

The value head has learned from sights before acts, so of a complete answer it knows little, and
what the act itself earns is left out: where short answers are paid at the end no gain over greedy
choice was found.

For roles that decide once, or whose next sight does not follow from their act, there is nothing to
look ahead to: an error says so. See `mores.agents.learning.decoding` for the operators themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mores.agents.learning import decoding
from mores.agents.learning.learner_state import Memory
from mores.core.errors import UserError
from mores.core.random_streams import Draws

if TYPE_CHECKING:
    from mores.agents.learning.learner import Learner

Choice = Literal["greedy", "best_of", "look_ahead"]


def searched(
    player: Learner,
    phase: str,
    seen: Float[Tensor, "world agent size"],
    legal: Bool[Tensor, "world agent option"] | None,
    memory: Memory,
    draws: Draws,
) -> Int[Tensor, "world agent"]:
    """What the player's search finds best.

    Raises:
        UserError: the next sight does not follow from the act, or policies remember the past.
    """
    make, seats = memory.make, memory.learned.seats
    stack, after = make.stack, make.role.after
    if after is None:
        raise UserError(
            f"search: {player.search} needs a role that knows what it sees after its own act: "
            f"{make.role.name} does not (Role.after)",
            code="unsupported",
            path="search",
        )
    if stack.carry_size:
        raise UserError(
            f"search: {player.search} needs a network that remembers nothing: an mlp",
            code="conflict",
            path="search",
        )
    parameters = memory.learned.pupil.parameters
    rows = seats.by_policy(seen)
    policies, size = rows.shape[0], rows.shape[-1]

    def likely(sights: Float[Tensor, "row size"]) -> Float[Tensor, "row option"]:
        by_policy = sights.view(policies, -1, size)
        raw, _, _ = stack.act(parameters, phase, by_policy, by_policy[..., :0])
        return raw.log_softmax(-1).flatten(0, 1)

    def promise(sights: Float[Tensor, "*row size"]) -> Float[Tensor, "*row"]:
        by_policy = sights.reshape(policies, -1, size)
        values = stack.values(parameters, by_policy, by_policy[..., :0])
        return values.reshape(sights.shape[:-1])

    if player.search == "look_ahead":
        chosen = decoding.look_ahead(
            rows.flatten(0, 1),
            likely,
            after,
            promise,
            ahead=player.search_ahead,
            candidates=player.search_candidates,
            weight=player.search_weight,
            legal=None if legal is None else seats.by_policy(legal).flatten(0, 1),
        )
        return seats.by_world(chosen.view(policies, -1))
    logits = seats.by_world(likely(rows.flatten(0, 1)).view(policies, rows.shape[1], -1))
    if legal is not None:
        logits = torch.where(legal, logits, -torch.inf)
    worlds, agents, options = logits.shape
    many = player.search_candidates
    noise = draws.gumbel("candidates", agents, many * options).view(worlds, agents, many, options)
    acts = (player.temperature * noise + logits[:, :, None]).argmax(-1)  # world agent candidate
    imagined = after(seen[:, :, None].expand(-1, -1, many, -1), acts)
    promised = seats.by_world(promise(seats.by_policy(imagined)))
    return acts.gather(-1, decoding.best_of(promised)[..., None])[..., 0]
