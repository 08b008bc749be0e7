"""Numbers of rows of a pass with which no row's bits depend on the other rows.

A matrix product selects its algorithm by its shape. If products with M and with M' rows give
different bits in the same row, the result of a conversation would depend on how many others are
computed with it. So the products of a model are computed with several numbers of rows when it is
loaded, on the machine and in the precision where it will run, and numbers of rows that differ from
the largest are not used. (One and two rows differ with MKL, four and more do not.)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

SHIFT = 3  # first of the rows of the largest product that are computed again


@torch.inference_mode()
def independent_counts(
    model: nn.Module, counts: Sequence[int], widths: Sequence[int]
) -> tuple[int, ...]:
    """The numbers of rows that give the bits of the largest one.

    Args:
        model: with layers of type `nn.Linear`; other layers are not checked.
        counts: numbers of rows, in increasing order; the last is always among the results.
        widths: numbers of tokens of a row in a pass; the output layer is computed for one.
    """
    linear: dict[tuple[int, int], nn.Linear] = {}
    for module in model.modules():
        if isinstance(module, nn.Linear):
            linear.setdefault((module.in_features, module.out_features), module)
    head = getattr(model, "get_output_embeddings", lambda: None)()
    allowed = set(counts)
    for module in linear.values():
        used = (1,) if module is head else widths
        generator = torch.Generator().manual_seed(0)
        inputs = torch.randn(counts[-1] * max(used), module.in_features, generator=generator)
        inputs = inputs.to(module.weight)
        for width in used:
            reference = nn.functional.linear(
                inputs[: counts[-1] * width], module.weight, module.bias
            )
            for count in counts[:-1]:
                # shifted, since a row may stand at any place of the pass
                shift = min(SHIFT, (counts[-1] - count) * width)
                rows = slice(shift, shift + count * width)
                part = nn.functional.linear(inputs[rows], module.weight, module.bias)
                if not torch.equal(part, reference[rows]):
                    allowed.discard(count)
    return tuple(count for count in counts if count in allowed)
