"""Entropy of the perspectives of an answer, its divergence from a population, and its fidelity.

With n_k references to perspective k of K and p_k = n_k / sum n:

    entropy      -sum p_k ln p_k / ln K, in [0, 1]: 1 if all perspectives are named equally often
    divergence   Jensen-Shannon divergence of p from the shares of people, in bits, in [0, 1]

The entropy is that of WorldView-Bench (Perspectives Distribution Score, arXiv 2505.09595). It rises
by mixing alone, whatever is said about a perspective. The divergence says whether the mixture is
that of the people. Whether what is said belongs to a perspective is counted in sentences
(`perspective_lexicon.naming_sentences`).
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from mores.core.deterministic_sum import total


def shares_of(counts: Float[Tensor, "*batch culture"]) -> Float[Tensor, "*batch culture"]:
    """Counts as shares; 0 everywhere without any."""
    sums = total(counts, -1)[..., None]
    return torch.where(sums > 0, counts / sums.clamp(min=1e-30), torch.zeros_like(counts))


def _entropy_terms(p: Float[Tensor, "*batch culture"]) -> Float[Tensor, "*batch culture"]:
    return torch.where(p > 0, -p * p.clamp(min=1e-30).log(), torch.zeros_like(p))


def perspective_entropy(counts: Float[Tensor, "*batch culture"]) -> Float[Tensor, "*batch"]:
    """Entropy of the references in units of its largest value; 0 without references."""
    cultures = counts.shape[-1]
    if cultures < 2:
        return torch.zeros_like(counts[..., 0])
    return total(_entropy_terms(shares_of(counts)), -1) / math.log(cultures)


def divergence_from(
    counts: Float[Tensor, "*batch culture"], shares: Float[Tensor, " culture"]
) -> Float[Tensor, "*batch"]:
    """Jensen-Shannon divergence of the references from shares, bits; 1 without references."""
    p = shares_of(counts)
    mixture = (p + shares) / 2
    terms = _entropy_terms(mixture) - (_entropy_terms(p) + _entropy_terms(shares)) / 2
    bits = (total(terms, -1) / math.log(2)).clamp(0.0, 1.0)
    return torch.where(total(counts, -1) > 0, bits, torch.ones_like(bits))
