"""What policies would have seen, had they done something else: sights of demonstrations.

A demonstration says what to do, not what one sees meanwhile. Where a role's next sight follows from
its own act (`mores.core.environment.Role.after`), that is found out here.
"""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Float
from torch import Tensor

from mores.agents.learning.batch import FeedbackBatch
from mores.core.environment import Role
from mores.core.errors import UserError


def sights_of(
    acts: Tensor, first: Float[Tensor, "policy sample size"], role: Role
) -> Float[Tensor, "policy sample step size"]:
    """What is seen before each of some acts `[policy, sample, step, ...]`.

    Raises:
        UserError: several acts, and a role whose next sight does not follow from them.
    """
    steps = acts.shape[2]
    if steps > 1 and role.after is None:
        raise UserError(
            f"demonstrations of {steps} acts need a role that knows what it sees after its own "
            f"act: {role.name} does not (Role.after)",
            code="unsupported",
            path=f"players.{role.name}",
        )
    seen = [first]
    for t in range(steps - 1):
        assert role.after is not None
        seen.append(role.after(seen[-1], acts[:, :, t]))
    return torch.stack(seen, 2)


def demonstrations(
    acts: Tensor,
    reward: Float[Tensor, "policy sample principal"] | None,
    own: FeedbackBatch,
    role: Role,
) -> FeedbackBatch:
    """Demonstrations `[policy, sample, step, ...]` that answer the requests of own samples.

    Args:
        acts: what was shown to each sample's seat.
        reward: what it was worth.
        own: what the seats did themselves: of it the first sights and the groups are taken.
        role: whose.
    """
    real = own.mask.any(-1, keepdim=True)
    begun = own.mask.long().argmax(-1)[..., None, None]  # a sample's first real step
    first = own.seen.gather(2, begun.expand(-1, -1, -1, own.seen.shape[-1]))[:, :, 0]
    mask = real.expand(-1, -1, acts.shape[2])
    return FeedbackBatch(
        sights_of(acts, first, role),
        acts,
        mask,
        begins=None if own.begins is None else torch.zeros_like(mask),
        carry=None if own.carry is None else torch.zeros_like(own.carry),
        reward=reward,
        group=own.group,
        reference=torch.ones_like(real[..., 0]),
    )


def joined(one: FeedbackBatch, other: FeedbackBatch) -> FeedbackBatch:
    """The samples of both, in the fields that both have; of equal length."""
    fields = {}
    for field in dataclasses.fields(FeedbackBatch):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if a is not None and b is not None and a.dim() > 1:
            if field.name in ("seen", "acted", "mask", "begins"):
                a, b = _as_long(a, b)
            fields[field.name] = torch.cat([a, b], 1)
    legal = [_all_open(x.legal, y) for x, y in ((one, other), (other, one))]
    if legal[0] is not None and legal[1] is not None:  # of demonstrations nothing is closed
        fields["legal"] = torch.cat(_as_long(legal[0], legal[1]), 1)
    return FeedbackBatch(**fields)


def _all_open(legal: Tensor | None, other: FeedbackBatch) -> Tensor | None:
    """What is open to samples, all of it where only the other samples say."""
    if legal is not None or other.legal is None:
        return legal
    return torch.ones_like(other.legal)


def _as_long(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Both with as many steps as the longer one."""
    most = max(a.shape[2], b.shape[2])

    def padded(x: Tensor) -> Tensor:
        missing = most - x.shape[2]
        if not missing:
            return x
        return torch.cat([x, x.new_zeros(*x.shape[:2], missing, *x.shape[3:])], 2)

    return padded(a), padded(b)
