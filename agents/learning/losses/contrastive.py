"""Contrastive loss: the embedding of a sample is close to its own target and far from all others.

InfoNCE (van den Oord et al. 2018, 1807.03748): with embeddings h_i of samples, targets y_i and
their cosines, or inner products,

    L = -mean_i log [exp(h_i y_i / τ) / Σ_j exp(h_i y_j / τ)]

The negatives are samples of the same model, never of another one. The symmetric form is the mean
with the roles of embeddings and targets exchanged (CLIP, 2103.00020).
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

CALLER = "contrastive_loss"


def contrastive_loss(
    out: ModelOutput,
    batch: FeedbackBatch,
    *,
    temperature: PerModelSetting = 0.1,
    symmetric: bool = True,
    normalize_length: bool = True,
    subset: str = "all",
) -> Float[Tensor, " model"]:
    """Cross-entropy of identifying the target of each sample among the model's targets, in nats.

    Args:
        out: output of the models, with `embedding`.
        batch: with `target`, of the same size.
        temperature: τ, in units of similarity.
        symmetric: whether the sample of each target is identified, too.
        normalize_length: whether similarity is the cosine, else the inner product.
        subset: samples used, which are each other's negatives; see `select_samples`.

    Raises:
        UserError: a setting is unknown or out of range, or a required field is missing.
    """
    check_positive(f"temperature of {CALLER}", temperature, path="temperature")
    embedding, target = out.require("embedding", CALLER), batch.require("target", CALLER)
    if embedding.shape[-1] != target.shape[-1]:
        raise UserError(
            f"{CALLER} needs 'embedding' and 'target' of the same size, not "
            f"{embedding.shape[-1]} and {target.shape[-1]}",
            code="wrong_shape",
            path="target",
        )
    valid = batch.mask.any(-1) & select_samples(batch, subset, CALLER)
    embedding = torch.where(valid[..., None], embedding, 0.0)
    target = torch.where(valid[..., None], target, 0.0)
    if normalize_length:
        embedding, target = normalize(embedding, dim=-1), normalize(target, dim=-1)
    similarity = torch.bmm(embedding, target.mT)  # model sample sample
    similarity = similarity / broadcast_setting(temperature, similarity)
    # Finite: in a row of invalid samples, -inf would give infinity minus infinity.
    lowest = torch.finfo(similarity.dtype).min
    similarity = torch.where(valid[:, None, :] & valid[..., None], similarity, lowest)
    own = similarity.diagonal(dim1=1, dim2=2)
    loss = similarity.logsumexp(2) - own
    if symmetric:
        loss = (loss + similarity.logsumexp(1) - own) / 2.0
    return masked_mean(loss, valid)
