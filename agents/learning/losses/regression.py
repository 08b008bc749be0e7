"""Numbers that should come true: what a value head expects, and what reward heads say.

    value    mean_t (V_t - R_t)^2, or with a clip the larger of it and
             (V_old + clip(V_t - V_old, -c, c) - R_t)^2      (PPO's code, 1707.06347)
    regress  mean (s - y)^2, or Huber's loss (1964), quadratic within a threshold and linear beyond

`regress` is the pointwise half of Baichuan's reward model (2410.14940), absolute scores beside
comparisons. No factor of 1/2 stands before a square: the weight in the objective says it.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from mores.agents.learning.batch import FeedbackBatch, Output
from mores.agents.learning.losses.reductions import (
    Setting,
    along,
    average,
    one_of,
    positive,
    step_average,
)
from mores.agents.learning.losses.sample_selection import chosen, steps_of
from mores.core.errors import UserError

LINKS = ("square", "huber")


def value(
    out: Output,
    batch: FeedbackBatch,
    *,
    clip: Setting | None = None,
    per: str = "step",
    which: str = "all",
) -> Float[Tensor, " policy"]:
    """Squared error of the value head.

    Args:
        out: what the policies say, with `value`.
        batch: with `value_target`, and `old_value` where there is a clip.
        clip: how far a value may move from the old one before it is held against the policy, in
            units of value; None: no clip.
        per: `step` or `sample`, see `masked.step_average`.
        which: the samples in question, see `samples.chosen`.

    Raises:
        UserError: a setting is unknown or out of range, or something is missing.
    """
    mask = steps_of(batch, which, "the value term")
    said = torch.where(mask, out.need("value", "the value term"), 0.0)
    target = torch.where(mask, batch.need("value_target", "the value term"), 0.0)
    loss = (said - target).square()
    if clip is not None:
        positive("the value term's clip", clip, path="clip")
        old = torch.where(mask, batch.need("old_value", "the value term with a clip"), 0.0)
        reach = torch.as_tensor(along(clip, said), dtype=said.dtype, device=said.device)
        held = old + torch.clamp(said - old, -reach, reach)
        loss = torch.maximum(loss, (held - target).square())
    return step_average(loss, mask, per)


def regress(
    out: Output,
    batch: FeedbackBatch,
    *,
    link: str = "square",
    threshold: float = 1.0,
    missing: bool = False,
    which: str = "all",
) -> Float[Tensor, " policy"]:
    """Error of the reward heads against what they should say of each sample.

    Args:
        out: what the policies say, with `score`.
        batch: with `target`.
        link: `square` or `huber`.
        threshold: up to which error Huber's loss is quadratic, in units of the score.
        missing: whether NaN in `target` means that nobody said what the score should be, and is
            left out; otherwise it makes that policy's loss NaN.
        which: the samples in question, see `samples.chosen`.

    Raises:
        UserError: a setting is unknown or out of range, or something is missing.
    """
    one_of("link of the regress term", link, LINKS, path="link")
    said = out.need("score", "the regress term")
    target = batch.need("target", "the regress term")
    if said.shape[-1] != target.shape[-1]:
        raise UserError(
            f"the regress term needs as many scores as targets, not {said.shape[-1]} "
            f"for {target.shape[-1]}",
            code="wrong_shape",
            path="target",
        )
    real = (batch.mask.any(-1) & chosen(batch, which, "the regress term"))[..., None]
    real = real & ~target.isnan() if missing else real.expand_as(target)
    error = torch.where(real, said, 0.0) - torch.where(real, target, 0.0)
    if link == "square":
        return average(error.square(), real)
    positive("the regress term's threshold", threshold, path="threshold")
    size = error.abs()
    within = error.square() / 2.0
    return average(torch.where(size <= threshold, within, threshold * (size - threshold / 2)), real)
