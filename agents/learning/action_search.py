"""Deciding with a search: the loop `act_with_search`, in which nobody learns.

Both searches imagine what follows by `mores.core.environment.Role.observation_model`, where one's next sight follows from
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
from mores.agents.learning.learner_state import LearnerState
from mores.core.errors import UserError
from mores.core.random_streams import RandomStreams

if TYPE_CHECKING:
    from mores.agents.learning.learner import Learner

SearchKind = Literal["greedy", "best_of_n", "lookahead"]


def search_actions(
    learner: Learner,
    phase: str,
    observation: Float[Tensor, "world agent size"],
    action_mask: Bool[Tensor, "world agent option"] | None,
    state: LearnerState,
    streams: RandomStreams,
) -> Int[Tensor, "world agent"]:
    """What the player's search finds best.

    Raises:
        UserError: the next sight does not follow from the act, or policies remember the past.
    """
    make, seats = state.spec, state.persistent_state.mapping
    stack, after = make.stacked_model, make.role.observation_model
    if after is None:
        raise UserError(
            f"search: {learner.search} needs a role that knows what it sees after its own act: "
            f"{make.role.name} does not (Role.after)",
            code="unsupported",
            path="search",
        )
    if stack.recurrent_state_size:
        raise UserError(
            f"search: {learner.search} needs a network that remembers nothing: an mlp",
            code="conflict",
            path="search",
        )
    parameters = state.persistent_state.train_state.parameters
    rows = seats.by_model(observation)
    policies, size = rows.shape[0], rows.shape[-1]

    def likely(sights: Float[Tensor, "row size"]) -> Float[Tensor, "row option"]:
        by_policy = sights.view(policies, -1, size)
        raw, _, _ = stack.forward_step(parameters, phase, by_policy, by_policy[..., :0])
        return raw.log_softmax(-1).flatten(0, 1)

    def promise(sights: Float[Tensor, "*row size"]) -> Float[Tensor, "*row"]:
        by_policy = sights.reshape(policies, -1, size)
        values = stack.predict_values(parameters, by_policy, by_policy[..., :0])
        return values.reshape(sights.shape[:-1])

    if learner.search == "lookahead":
        chosen = decoding.lookahead(
            rows.flatten(0, 1),
            likely,
            after,
            promise,
            depth=learner.search_depth,
            num_candidates=learner.search_num_candidates,
            weight=learner.search_weight,
            action_mask=None if action_mask is None else seats.by_model(action_mask).flatten(0, 1),
        )
        return seats.by_world(chosen.view(policies, -1))
    logits = seats.by_world(likely(rows.flatten(0, 1)).view(policies, rows.shape[1], -1))
    if action_mask is not None:
        logits = torch.where(action_mask, logits, -torch.inf)
    worlds, agents, options = logits.shape
    many = learner.search_num_candidates
    noise = streams.gumbel("candidates", agents, many * options).view(worlds, agents, many, options)
    acts = (learner.temperature * noise + logits[:, :, None]).argmax(-1)  # world agent candidate
    imagined = after(observation[:, :, None].expand(-1, -1, many, -1), acts)
    promised = seats.by_world(promise(seats.by_model(imagined)))
    return acts.gather(-1, decoding.best_of_n(promised)[..., None])[..., 0]
