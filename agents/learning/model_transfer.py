"""Models that begin with the parameters of others: of another recipe, or of a file."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mores.agents.learning.learner_state import LearnerState
from mores.agents.learning.train_state import copy_parameters
from mores.core.errors import UserError


def continue_models(state: LearnerState, initial: LearnerState) -> None:
    """Let the models of an initial state, of another recipe, continue from those of `state`.

    Raises:
        UserError: the architectures differ.
    """
    before, after = state.persistent_state, initial.persistent_state
    train_state, old_parameters = after.train_state, before.train_state.parameters
    new_parameters, role = train_state.parameters, state.spec.role.name
    # Heads may come and go: a value head, that of a phase. The encoder may not change.
    encoder_names = {n for n in (*new_parameters, *old_parameters) if n.startswith("policy.")}
    heads = (new_parameters.keys() & old_parameters.keys()) - encoder_names
    for name in (*sorted(encoder_names), *sorted(heads)):
        old, new = old_parameters.get(name), new_parameters.get(name)
        if old is None or new is None or old.shape != new.shape:
            raise UserError(
                f"{role} cannot continue from the models of the stage before: shape of {name} "
                f"(models first) was {_shape_text(old)}, is {_shape_text(new)}; stages of a "
                "role need the same network and parameter_sharing",
                code="incompatible",
                path=f"policies.{role}",
            )
        new.copy_(old)
    old, new = state.spec.stacked_model.encoder, initial.spec.stacked_model.encoder
    if old != new:
        raise UserError(
            f"{role} cannot continue from the models of the stage before: the network was "
            f"{old!r}, is {new!r}",
            code="incompatible",
            path=f"policies.{role}",
        )
    train_state.reference_parameters.update(copy_parameters(train_state.parameters))
    train_state.active.copy_(before.train_state.active)
    train_state.stopped_round.copy_(before.train_state.stopped_round)
    after.num_rounds.copy_(before.num_rounds)


def load_models(
    state: LearnerState, own: Mapping[str, Tensor], saved: Mapping[str, Tensor]
) -> None:
    """Load saved parameters, stops and update counts into the models of a state, in place.

    Args:
        state: the state.
        own: its `state_dict`.
        saved: the `state_dict` to load.

    Raises:
        UserError: it is from models of other shapes, or of other replicates.
    """
    train_state, role = state.persistent_state.train_state, state.spec.role.name
    for name in sorted(own.keys() | saved.keys()):
        old, new = saved.get(name), own.get(name)
        identifies = name in ("draw", "replicate", "model_number")
        if (
            old is None
            or new is None
            or old.shape != new.shape
            or (identifies and not torch.equal(old.to(new.device), new))
        ):
            raise UserError(
                f"{role}: {name} does not fit: shape {_shape_text(old)} (models first) was saved, "
                f"the learner has {_shape_text(new)}",
                code="incompatible",
                path=f"policies.{role}",
            )
    for name, parameter in train_state.parameters.items():
        parameter.copy_(saved[name])
    train_state.stopped_round.copy_(saved["stopped_at"])
    train_state.updates.copy_(saved["num_updates"])
    train_state.active.copy_(saved["stopped_at"] < 0)


def _shape_text(tensor: Tensor | None) -> str:
    return "missing" if tensor is None else str(list(tensor.shape))
