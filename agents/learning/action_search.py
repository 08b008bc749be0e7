"""Action search: a trained policy uses its value head to choose an action.

Both searches predict the next observation with `mores.core.environment.Role.observation_model`,
where it follows from the agent's own action, and evaluate it with the value head:

    best_of_n     samples candidates from the policy; takes the one with the highest value
    lookahead     continues the likeliest options greedily for some actions (DeAL, 2402.06147) and
                  takes the highest sum of log-probability and weight times the value at the end

The value head is trained on observations before actions, so its values of complete answers are
poor, and the reward of the action itself is left out: where short answers are rewarded at the end,
no gain over greedy actions was found. A role without an observation model has nothing to search;
this is an error. The operators themselves are in `mores.agents.learning.decoding`.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mores.agents.learning import decoding
from mores.agents.learning.learner_state import LearnerState
from mores.core.errors import UserError
from mores.core.random_streams import RandomStreams

SearchKind = Literal["greedy", "best_of_n", "lookahead"]


class SearchConfig(NamedTuple):
    """Settings of a search: see the parameters `search` ... of `NetworkLearner`."""

    kind: SearchKind
    num_candidates: int
    depth: int
    weight: float
    temperature: float


def search_actions(
    config: SearchConfig,
    phase: str,
    observation: Float[Tensor, "world agent size"],
    action_mask: Bool[Tensor, "world agent option"] | None,
    state: LearnerState,
    streams: RandomStreams,
) -> Int[Tensor, "world agent"]:
    """Actions that the search rates highest.

    Raises:
        UserError: the role has no observation model, or the network is recurrent.
    """
    mapping, stacked_model = state.persistent_state.mapping, state.spec.stacked_model
    role, observation_model = state.spec.role.name, state.spec.role.observation_model
    if observation_model is None:
        message = f"search: {config.kind} needs Role.observation_model, which {role} does not have"
        raise UserError(message, code="unsupported", path="search")
    if stacked_model.recurrent_state_size:
        message = f"search: {config.kind} needs a network without recurrent state: kind: mlp"
        raise UserError(message, code="conflict", path="search")
    parameters = state.persistent_state.train_state.parameters
    rows = mapping.by_model(observation)
    num_models, size = rows.shape[0], rows.shape[-1]

    def log_probs(observations: Float[Tensor, "row size"]) -> Float[Tensor, "row option"]:
        by_model = observations.view(num_models, -1, size)
        logits, _, _ = stacked_model.forward_step(parameters, phase, by_model, by_model[..., :0])
        return logits.log_softmax(-1).flatten(0, 1)

    def predicted_value(observations: Float[Tensor, "*row size"]) -> Float[Tensor, "*row"]:
        by_model = observations.reshape(num_models, -1, size)
        values = stacked_model.predict_values(parameters, by_model, by_model[..., :0])
        return values.reshape(observations.shape[:-1])

    if config.kind == "lookahead":
        mask = None if action_mask is None else mapping.by_model(action_mask).flatten(0, 1)
        action = decoding.lookahead(
            rows.flatten(0, 1),
            log_probs,
            observation_model,
            predicted_value,
            depth=config.depth,
            num_candidates=config.num_candidates,
            weight=config.weight,
            action_mask=mask,
        )
        return mapping.by_world(action.view(num_models, -1))
    logits = mapping.by_world(log_probs(rows.flatten(0, 1)).view(num_models, rows.shape[1], -1))
    if action_mask is not None:
        logits = torch.where(action_mask, logits, -torch.inf)
    worlds, agents, options = logits.shape
    count = config.num_candidates
    noise = streams.gumbel("candidates", agents, count * options)
    noise = noise.view(worlds, agents, count, options)
    candidates = (config.temperature * noise + logits[:, :, None]).argmax(-1)
    predicted = observation_model(observation[:, :, None].expand(-1, -1, count, -1), candidates)
    values = mapping.by_world(predicted_value(mapping.by_model(predicted)))  # world agent candidate
    return candidates.gather(-1, decoding.best_of_n(values)[..., None])[..., 0]
