"""Layers of stacked networks: one batched matrix product for many independent models.

Parameters are named tensors that lead with the model: weights `[model, in, out]`, biases
`[model, 1, out]`. The models of a stack share their architecture and no parameters.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from mores.core.random_streams import RandomStreams
from mores.core.stream_addresses import parameter_address

Parameters = Mapping[str, Tensor]


@dataclasses.dataclass(frozen=True)
class LinearSpec:
    """Affine layer: its sizes, and the gain of its initial weights (0: all zero)."""

    in_features: int
    out_features: int
    gain: float = math.sqrt(2.0)
    bias: bool = True


def linear(parameters: Parameters, name: str, x: Float[Tensor, "model row in"]) -> Tensor:
    """Output of the affine layer `name` of every model, `[model, row, out]`."""
    bias = parameters.get(f"{name}.bias")
    weight = parameters[f"{name}.weight"]
    return torch.bmm(x, weight) if bias is None else torch.baddbmm(bias, x, weight)


def layer_norm(
    parameters: Parameters, name: str, x: Float[Tensor, "model *row size"]
) -> Float[Tensor, "model *row size"]:
    """Layer normalization with a weight and a bias per model."""
    y = torch.nn.functional.layer_norm(x, x.shape[-1:])
    shape = (len(x), *[1] * (x.dim() - 2), x.shape[-1])
    return y * parameters[f"{name}.weight"].view(shape) + parameters[f"{name}.bias"].view(shape)


def init_linear_parameters(
    layers: Mapping[str, LinearSpec], streams: RandomStreams, models_per_replicate: int
) -> dict[str, Tensor]:
    """Orthogonal weights (Saxe et al. 2014, arXiv 1312.6120) and zero biases.

    Args:
        layers: layers by name; the names address random streams.
        streams: random streams of the first world of each replicate, so the initial models of a
            replicate do not depend on other replicates.
        models_per_replicate: models in each replicate.

    Returns:
        Tensors by name, `[replicate * models_per_replicate, ...]`, replicate by replicate.
    """
    parameters: dict[str, Tensor] = {}
    for name, layer in layers.items():
        address, size = f"weights/{parameter_address(name)}", layer.in_features * layer.out_features
        normal = streams.normal(address, models_per_replicate, size)
        num_models = streams.num_worlds * models_per_replicate
        normal = normal.reshape(num_models, layer.in_features, layer.out_features)
        parameters[f"{name}.weight"] = layer.gain * _orthogonal(normal)
        if layer.bias:
            bias = torch.zeros(num_models, 1, layer.out_features, device=streams.device)
            parameters[f"{name}.bias"] = bias
    return parameters


def _orthogonal(normal: Float[Tensor, "model in out"]) -> Float[Tensor, "model in out"]:
    """Matrices with orthonormal rows or columns (the smaller number), uniformly distributed.

    In 64 bits: the last bits of a decomposition depend on the memory position of a matrix, so in 32
    bits the result would depend on the number of models.
    """
    is_wide = normal.shape[1] < normal.shape[2]
    q, r = torch.linalg.qr((normal.mT if is_wide else normal).double())
    diagonal = r.diagonal(dim1=-2, dim2=-1)
    signs = torch.where(diagonal < 0, -1.0, 1.0)
    q = (q * signs[:, None, :]).to(normal.dtype)
    return (q.mT if is_wide else q).contiguous()
