"""Two views of the same thing are near each other, and far from all others.

InfoNCE (van den Oord et al. 2018, 1807.03748): with embeddings h_i of samples, targets y_i and
their cosines, or inner products,

    L = -mean_i log [exp(h_i y_i / τ) / Σ_j exp(h_i y_j / τ)]

The others are the samples of the same policy, never another's. The symmetric form is the mean with
the roles of embeddings and targets exchanged (CLIP, 2103.00020).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from mores.agents.learning.batch import FeedbackBatch, ModelOutput
from mores.agents.learning.losses.reductions import (
    PerModelSetting,
    broadcast_setting,
    check_positive,
    masked_mean,
)
from mores.agents.learning.losses.sample_selection import select_samples
from mores.core.errors import UserError

CALLER = "the contrast term"


def contrastive_loss(
    out: ModelOutput,
    batch: FeedbackBatch,
    *,
    temperature: PerModelSetting = 0.1,
    symmetric: bool = True,
    normalize_length: bool = True,
    subset: str = "all",
) -> Float[Tensor, " policy"]:
    """How hard it is to tell a sample's own target from those of a policy's other samples, in nats.

    Args:
        out: what the policies say, with `hidden`.
        batch: with `target`, of the same size.
        temperature: τ, in units of similarity.
        symmetric: whether targets must find their samples, too.
        normalize_length: whether similarity is the cosine, else the inner product.
        subset: the samples in question, which are one another's negatives; see `samples.chosen`.

    Raises:
        UserError: a setting is unknown or out of range, or something is missing.
    """
    check_positive("the contrast term's temperature", temperature, path="temperature")
    hidden, target = out.require("hidden", CALLER), batch.require("target", CALLER)
    if hidden.shape[-1] != target.shape[-1]:
        raise UserError(
            f"{CALLER} compares 'hidden' with 'target': {hidden.shape[-1]} numbers "
            f"are not {target.shape[-1]}",
            code="wrong_shape",
            path="target",
        )
    real = batch.mask.any(-1) & select_samples(batch, subset, CALLER)
    hidden = torch.where(real[..., None], hidden, 0.0)
    target = torch.where(real[..., None], target, 0.0)
    if normalize_length:
        hidden, target = normalize(hidden, dim=-1), normalize(target, dim=-1)
    alike = torch.bmm(hidden, target.mT)  # policy sample sample
    alike = alike / broadcast_setting(temperature, alike)
    # Finite: a row of samples that are not there would be infinity less infinity.
    absent = torch.finfo(alike.dtype).min
    alike = torch.where(real[:, None, :] & real[..., None], alike, absent)
    own = alike.diagonal(dim1=1, dim2=2)
    loss = alike.logsumexp(2) - own
    if symmetric:
        loss = (loss + alike.logsumexp(1) - own) / 2.0
    return masked_mean(loss, real)
