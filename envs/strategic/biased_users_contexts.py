"""Items of conversations, and the features in which an assistant observes them.

An item is a question with k answers, one of which is right, the *truth*; the person claims one, the
*claim*. The assistant observes features

    x = C_d [one-hot(truth), one-hot(claim)] + feature_noise * N(0, 1)

where C_d is the code of the domain d of the conversation, with 2 k orthonormal columns. If domains
have codes of their own, what is learned about one domain says nothing about the features of
another: that an assistant behaves alike in both is a property of its network, not of the data.
"""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mores.core.random_streams import RandomStreams, uniform_index


@dataclasses.dataclass(frozen=True)
class Items:
    """Items, their claims, and what the features add to them.

    Attributes:
        truth: index of the right answer.
        claim: index of the person's answer.
        noise: noise of the features.
        cue_noise: noise of the cue of the person's type.
    """

    truth: Int[Tensor, "world item"]
    claim: Int[Tensor, "world item"]
    noise: Float[Tensor, "world item feature"]
    cue_noise: Float[Tensor, "world item"]


def sample_items(
    claim: Int[Tensor, "world item"],
    error_rate: float,
    num_answers: int,
    num_features: int,
    feature_noise: float,
    streams: RandomStreams,
) -> Items:
    """Items on which a claim is wrong with probability `error_rate`; wrong answers are uniform."""
    count = claim.shape[1]
    is_wrong = streams.uniform("claim error", count)[..., 0] < error_rate
    other = 1 + uniform_index(num_answers - 1, streams.uniform("truth", count)[..., 0])
    truth = torch.where(is_wrong, (claim + other) % num_answers, claim)
    noise = feature_noise * streams.normal("features", count, num_features)
    return Items(truth, claim, noise, streams.normal("cue", count)[..., 0])


def item_features(
    items: Items,
    codes: Float[Tensor, "world domain component feature"],
    domain: Int[Tensor, "world item"],
    with_claim: bool = True,
) -> Float[Tensor, "world item feature"]:
    """Features of items in these domains, with or without the person's claim."""
    world = torch.arange(len(domain), device=domain.device)[:, None]
    features = codes[world, domain, items.truth] + items.noise
    if with_claim:
        features = features + codes[world, domain, codes.shape[2] // 2 + items.claim]
    return features


def plain_code(num_components: int, num_features: int) -> Float[Tensor, "component feature"]:
    """Code whose first features are the components."""
    return torch.eye(num_components, num_features)


def sample_codes(
    num_domains: int,
    num_components: int,
    num_features: int,
    shared_code: float,
    streams: RandomStreams,
) -> Float[Tensor, "world domain component feature"]:
    """Code of each domain: orthonormal rows of `shared_code * plain + (1 - shared_code) * own`.

    In 64 bits: the last bits of a decomposition depend on the position of a matrix in memory.
    """
    size = num_components * num_features
    normal = streams.normal("code", num_domains, size).double()
    normal = normal.unflatten(-1, (num_components, num_features))
    own = _orthonormal_rows(normal)
    plain = plain_code(num_components, num_features).to(own)
    return _orthonormal_rows(shared_code * plain + (1.0 - shared_code) * own).float()


def _orthonormal_rows(
    matrix: Float[Tensor, "*many component feature"],
) -> Float[Tensor, "*many component feature"]:
    """Gram-Schmidt of the rows, by a decomposition with positive diagonal."""
    q, r = torch.linalg.qr(matrix.mT)
    signs = torch.where(r.diagonal(dim1=-2, dim2=-1) < 0, -1.0, 1.0)
    return (q * signs[..., None, :]).mT
