"""Group-wise merging: weights are merged only with those that they do not harm.

Training for one group of people may help or harm another, and not equally in both directions: the
transfer matrix T[g, h] is the change of the return on group h by training on group g. The
compatibility of two sets of weights is that of the worse direction,

    compatibility(g, h) = min(T[g, h], T[h, g]),

and clusters are joined, the most compatible first, as long as every pair within one has a
compatibility of at least `threshold` (complete linkage). So a set is never merged with one that it
harms, not even by way of a third. Any merge can be used within a cluster; TIES by default.

The idea of merging by group, for directions whose conflict is asymmetric, is from Zheng et al. 2025
(arXiv 2502.11223), where groups of languages are given. The transfer matrix and its clusters are
this project's own formulation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mores.agents.learning.weights.merging import ties_merge
from mores.agents.learning.weights.stacked_weights import StackedWeights, check_layout, count_models
from mores.core.errors import UserError

MergeFunction = Callable[[StackedWeights, Sequence[StackedWeights]], dict[str, Tensor]]


class ClusterMerge(NamedTuple):
    """Weights merged within clusters.

    Attributes:
        weights: merged weights of the cluster of every set; a set alone is unchanged.
        cluster: index of the cluster of every set, from zero in order of first members.
    """

    weights: tuple[dict[str, Tensor], ...]
    cluster: Int[Tensor, "model set"]


def merge_by_cluster(
    base: StackedWeights,
    weight_sets: Sequence[StackedWeights],
    transfer: Float[Tensor, "set set"] | Float[Tensor, "model set set"],
    threshold: float = 0.0,
    merge: MergeFunction = ties_merge,
) -> ClusterMerge:
    """Merge sets of weights within the clusters of a transfer matrix.

    Args:
        base: weights before training.
        weight_sets: weights after training, one set per group.
        transfer: change of the return on group h (column) by training on g (row), for all models
            or by model.
        threshold: the lowest compatibility within a cluster, in units of the return.
        merge: function of base and sets that merges a cluster: `ties_merge`, `model_stock`, ...

    Raises:
        UserError: the sets differ in layout, or the matrix has another size.
    """
    check_layout(base, *weight_sets)
    models, sets = count_models(base), len(weight_sets)
    if transfer.shape[-2:] != (sets, sets) or transfer.shape[:-2] not in ((), (models,)):
        raise UserError(
            f"transfer must be [{sets}, {sets}] or [{models}, {sets}, {sets}] ([model, set, set]), "
            f"not {list(transfer.shape)}",
            code="wrong_shape",
            path="transfer",
        )
    cluster = torch.stack(
        [complete_linkage_clusters(t, threshold) for t in transfer.reshape(-1, sets, sets)]
    )
    cluster = cluster.expand(models, sets)
    merged = [dict(weights) for weights in weight_sets]
    # Models with the same clusters are merged together.
    partitions, partition_index = torch.unique(cluster, dim=0, return_inverse=True)
    for index, labels in enumerate(partitions):
        rows = (partition_index == index).nonzero()[:, 0]
        for label in range(int(labels.max()) + 1):
            members = (labels == label).nonzero()[:, 0].tolist()
            if len(members) > 1:
                cluster_weights = merge(
                    _select_models(base, rows),
                    [_select_models(weight_sets[m], rows) for m in members],
                )
                for member in members:
                    merged[member] = _replace_rows(merged[member], cluster_weights, rows)
    return ClusterMerge(tuple(merged), cluster)


def complete_linkage_clusters(
    transfer: Float[Tensor, "set set"], threshold: float = 0.0
) -> Int[Tensor, " set"]:
    """Index of the cluster of every set: complete linkage by the worse direction of transfer.

    A set with unknown transfer (NaN) to another is not joined with it.
    """
    compatibility = torch.minimum(transfer, transfer.T).nan_to_num(nan=-torch.inf).tolist()
    groups = [[index] for index in range(len(compatibility))]

    def weakest(one: list[int], other: list[int]) -> float:
        return min(compatibility[a][b] for a in one for b in other)

    while len(groups) > 1:
        pairs = [(i, j) for i in range(len(groups)) for j in range(i + 1, len(groups))]
        i, j = max(pairs, key=lambda pair: weakest(groups[pair[0]], groups[pair[1]]))
        if not weakest(groups[i], groups[j]) >= threshold:
            break
        groups[i] += groups.pop(j)
    cluster = torch.zeros(len(compatibility), dtype=torch.int64)
    for index, members in enumerate(sorted(groups, key=min)):
        cluster[members] = index
    return cluster


def _select_models(weights: StackedWeights, models: Int[Tensor, " some"]) -> dict[str, Tensor]:
    return {name: tensor[models] for name, tensor in weights.items()}


def _replace_rows(
    weights: StackedWeights, new: StackedWeights, models: Int[Tensor, " some"]
) -> dict[str, Tensor]:
    return {name: tensor.index_copy(0, models, new[name]) for name, tensor in weights.items()}
