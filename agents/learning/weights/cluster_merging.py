"""Group-wise merging: weights are merged only with those that they do not harm.

Training for one group of people may help or harm another, and not the same both ways: the transfer
matrix T[g, h] says by how much the return on group h changed after training on group g. Two sets of
weights get along as well as the worse of the two directions does,

    bond(g, h) = min(T[g, h], T[h, g]),

and clusters are joined, those of the strongest bond first, as long as every pair within one has a
bond of at least `threshold` (complete linkage). So nobody is merged with somebody whom it harms,
not even by way of a third. Within a cluster any merge serves; TIES by default.

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
        weights: of every set, what its cluster was merged to; a set alone stays as it was.
        cluster: number of the cluster of every set, counted from zero in order of first members.
    """

    weights: tuple[dict[str, Tensor], ...]
    cluster: Int[Tensor, "policy set"]


def merge_by_cluster(
    base: StackedWeights,
    weight_sets: Sequence[StackedWeights],
    transfer: Float[Tensor, "set set"] | Float[Tensor, "policy set set"],
    threshold: float = 0.0,
    merge: MergeFunction = ties_merge,
) -> ClusterMerge:
    """Merge sets of weights within the clusters of a transfer matrix.

    Args:
        base: what training began from.
        weight_sets: what it led to, one set of weights a group.
        transfer: change of the return on group h (column) by training on g (row), for all policies
            or by policy.
        threshold: the least bond within a cluster, in units of the return.
        merge: function of base and sets that merges a cluster, such as `ties_merge` or `model_stock`.

    Raises:
        UserError: the sets differ in layout, or the matrix has another size.
    """
    check_layout(base, *weight_sets)
    policies, sets = count_models(base), len(weight_sets)
    if transfer.shape[-2:] != (sets, sets) or transfer.shape[:-2] not in ((), (policies,)):
        raise UserError(
            f"the transfer matrix is {tuple(transfer.shape)}: {sets} sets of weights of "
            f"{policies} policies need [set, set] or [policy, set, set]",
            code="wrong_shape",
            path="transfer",
        )
    cluster = torch.stack(
        [complete_linkage_clusters(t, threshold) for t in transfer.reshape(-1, sets, sets)]
    )
    cluster = cluster.expand(policies, sets)
    merged = [dict(one) for one in weight_sets]
    # Policies whose clusters are the same are merged together.
    kinds, kind = torch.unique(cluster, dim=0, return_inverse=True)
    for number, labels in enumerate(kinds):
        rows = (kind == number).nonzero()[:, 0]
        for label in range(int(labels.max()) + 1):
            members = (labels == label).nonzero()[:, 0].tolist()
            if len(members) > 1:
                whole = merge(
                    _select_models(base, rows),
                    [_select_models(weight_sets[m], rows) for m in members],
                )
                for member in members:
                    merged[member] = _replace_rows(merged[member], whole, rows)
    return ClusterMerge(tuple(merged), cluster)


def complete_linkage_clusters(
    transfer: Float[Tensor, "set set"], threshold: float = 0.0
) -> Int[Tensor, " set"]:
    """Number of the cluster of every set: complete linkage by the worse direction of transfer.

    An unknown transfer (NaN) joins nobody.
    """
    bond = torch.minimum(transfer, transfer.T).nan_to_num(nan=-torch.inf).tolist()
    groups = [[number] for number in range(len(bond))]

    def weakest(one: list[int], other: list[int]) -> float:
        return min(bond[a][b] for a in one for b in other)

    while len(groups) > 1:
        pairs = [(i, j) for i in range(len(groups)) for j in range(i + 1, len(groups))]
        i, j = max(pairs, key=lambda pair: weakest(groups[pair[0]], groups[pair[1]]))
        if not weakest(groups[i], groups[j]) >= threshold:
            break
        groups[i] += groups.pop(j)
    cluster = torch.zeros(len(bond), dtype=torch.int64)
    for number, members in enumerate(sorted(groups, key=min)):
        cluster[members] = number
    return cluster


def _select_models(weights: StackedWeights, models: Int[Tensor, " some"]) -> dict[str, Tensor]:
    return {name: tensor[models] for name, tensor in weights.items()}


def _replace_rows(
    weights: StackedWeights, new: StackedWeights, models: Int[Tensor, " some"]
) -> dict[str, Tensor]:
    return {name: tensor.index_copy(0, models, new[name]) for name, tensor in weights.items()}
