"""Layers of many independent networks: one batched product for all of them.

Parameters are named tensors that lead with the policy: weights `[policy, in, out]`, biases
`[policy, 1, out]`. Policies of one stack have the same layout and nothing else in common.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from mores.core.random_streams import RandomStreams

Parameters = Mapping[str, Tensor]


@dataclasses.dataclass(frozen=True)
class LinearSpec:
    """An affine map to be made: its sizes, and the gain of its first weights (0: all zero)."""

    in_features: int
    out_features: int
    gain: float = math.sqrt(2.0)
    bias: bool = True


def linear(parameters: Parameters, name: str, x: Float[Tensor, "policy row in"]) -> Tensor:
    """The affine map `name` of every policy: `[policy, row, out]`."""
    bias = parameters.get(f"{name}.bias")
    weight = parameters[f"{name}.weight"]
    return torch.bmm(x, weight) if bias is None else torch.baddbmm(bias, x, weight)


def layer_norm(
    parameters: Parameters, name: str, x: Float[Tensor, "policy *row size"]
) -> Float[Tensor, "policy *row size"]:
    """Layer normalisation with every policy's own gain and offset."""
    y = torch.nn.functional.layer_norm(x, x.shape[-1:])
    shape = (len(x), *[1] * (x.dim() - 2), x.shape[-1])
    return y * parameters[f"{name}.gain"].view(shape) + parameters[f"{name}.offset"].view(shape)


def init_linear_parameters(
    layers: Mapping[str, LinearSpec], streams: RandomStreams, models_per_replicate: int
) -> dict[str, Tensor]:
    """Orthogonal weights (Saxe et al. 2014, arXiv 1312.6120) and zero biases.

    Args:
        layers: by name.
        streams: of the first world of each replicate; so a replicate's learners begin the same
            whatever is trained beside them.
        models_per_replicate: policies in a replicate.

    Returns:
        Tensors by name, `[replicate * each, ...]`, replicate by replicate.
    """
    made: dict[str, Tensor] = {}
    for name, layer in layers.items():
        numbers = streams.normal(
            f"weights/{name}", models_per_replicate, layer.in_features * layer.out_features
        )
        policies = streams.num_worlds * models_per_replicate
        normal = numbers.reshape(policies, layer.in_features, layer.out_features)
        made[f"{name}.weight"] = layer.gain * _orthogonal(normal)
        if layer.bias:
            made[f"{name}.bias"] = torch.zeros(
                policies, 1, layer.out_features, device=streams.device
            )
    return made


def _orthogonal(normal: Float[Tensor, "policy in out"]) -> Float[Tensor, "policy in out"]:
    """Matrices with orthonormal rows or columns, whichever are fewer, uniformly distributed.

    In 64 bits: the last ones of a decomposition depend on where in memory a matrix lies, and so on
    how many stand beside it.
    """
    wide = normal.shape[1] < normal.shape[2]
    tall = normal.mT if wide else normal
    q, r = torch.linalg.qr(tall.double())
    diagonal = r.diagonal(dim1=-2, dim2=-1)
    signs = torch.where(diagonal < 0, -1.0, 1.0)
    q = (q * signs[:, None, :]).to(normal.dtype)
    return (q.mT if wide else q).contiguous()
