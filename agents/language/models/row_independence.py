"""The least number of rows of a matrix product from which a row's bits do not depend on the others.

A matrix product selects its algorithm by its shape. If products with M and with M' rows give
different bits in the same row, the result of a conversation would depend on how many others are
computed with it. So the products of a model are computed with several numbers of rows when it is
loaded, on the machine and in the precision where it will run. Products of one to three rows, which
libraries compute as products with vectors, are never used. (With MKL on a CPU they differ from
others, and those of four and more rows are equal.)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

COUNTS = (4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256, 512)
HEAD_COUNTS = 8  # the output layer is computed for at most as many of them
SHIFTS = (3, 21, 40)  # first of the rows of the largest product that are computed again


@torch.inference_mode()
def least_independent_rows(model: nn.Module) -> int:
    """The least of `COUNTS` from which all of them give the bits of the largest.

    Args:
        model: with layers of type `nn.Linear`; one of each shape is computed. Other layers are not
            checked.
    """
    linear: dict[tuple[int, int], nn.Linear] = {}
    for module in model.modules():
        if isinstance(module, nn.Linear):
            linear.setdefault((module.in_features, module.out_features), module)
    head = getattr(model, "get_output_embeddings", lambda: None)()
    least = COUNTS[0]
    for module in linear.values():
        counts = COUNTS[:HEAD_COUNTS] if module is head else COUNTS
        generator = torch.Generator().manual_seed(0)
        inputs = torch.randn(counts[-1], module.in_features, generator=generator)
        inputs = inputs.to(module.weight)
        reference = nn.functional.linear(inputs, module.weight, module.bias)
        for before, count in zip(reversed(counts[:-1]), reversed(counts[1:]), strict=True):
            tried = SHIFTS if before <= counts[HEAD_COUNTS - 1] else SHIFTS[:1]
            shifts = {min(shift, counts[-1] - before) for shift in tried}
            if not all(_is_equal(module, inputs, reference, shift, before) for shift in shifts):
                least = max(least, count)
                break
    return least


def _is_equal(module: nn.Linear, inputs: Tensor, reference: Tensor, first: int, count: int) -> bool:
    """Whether a product of some rows has the bits of the product of all."""
    rows = slice(first, first + count)
    part = nn.functional.linear(inputs[rows], module.weight, module.bias)
    return torch.equal(part, reference[rows])
