"""Tensor of numbers that differ between people or worlds, with the type promotion of a number.

In an operation with a tensor, a Python number takes the dtype of the tensor: `0.3 * x` is float32
if `x` is; arithmetic among Python numbers is in double precision. A `ParameterTensor` does the
same. Code that is written for a parameter that is one number, such as
`(1.0 - self.susceptibility) * anchor`, then also works for one that differs between people, and the
result of a person is bit for bit that of the person's number alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

# Functions that select elements: their result for a `ParameterTensor` is another one.
_SELECTIONS = frozenset(
    {
        *(Tensor.__getitem__, Tensor.gather, torch.gather),
        *(Tensor.index_select, torch.index_select, Tensor.take_along_dim, torch.take_along_dim),
    }
)


class ParameterTensor(Tensor):
    """A float64 tensor that is converted to the dtype of other floating-point operands.

    With tensors of integers or booleans alone the result has the default dtype, as that of a number
    has. Without other tensors, and where elements are selected, it is a `ParameterTensor`.

    Its truth value is True, that of a number other than 0, even if some or all elements are 0: a
    branch such as `if self.noise_std` must compute the general case. `p += x` gives a new tensor
    and does not modify `p`.
    """

    @classmethod
    def of(cls, numbers: Tensor) -> ParameterTensor:
        """The numbers as a `ParameterTensor`, in float64."""
        return numbers.to(torch.float64).as_subclass(cls)

    def __bool__(self) -> bool:
        if self.dtype is torch.bool:
            return bool(self.as_subclass(Tensor))  # a comparison: one element, or an error
        return True

    def __pow__(self, exponent: Any) -> Any:
        """A power with the bits of a number's power."""
        return _power(self, exponent) if isinstance(exponent, float) else super().__pow__(exponent)

    def __rpow__(self, base: Any) -> Any:
        """A power with the bits of a number's power."""
        return _power(base, self) if isinstance(base, (int, float)) else super().__rpow__(base)

    def __iadd__(self, other: Any) -> Any:
        return self + other

    def __isub__(self, other: Any) -> Any:
        return self - other

    def __imul__(self, other: Any) -> Any:
        return self * other

    def __itruediv__(self, other: Any) -> Any:
        return self / other

    def __ipow__(self, other: Any) -> Any:
        return self**other

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Iterable[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Compute with plain tensors of the dtype to which a number in its place is converted."""
        kwargs = kwargs or {}
        others = [x for x in _tensors((*args, *kwargs.values())) if not isinstance(x, cls)]
        if func in _SELECTIONS:
            others = []
        floating = [x.dtype for x in others if x.is_floating_point()]
        dtype = (floating or [torch.get_default_dtype()])[0] if others else None

        def plain(value: Any) -> Any:
            if isinstance(value, cls):
                tensor = value.as_subclass(Tensor)
                return tensor if dtype is None or tensor.dtype is torch.bool else tensor.to(dtype)
            if isinstance(value, (tuple, list)) and any(isinstance(v, cls) for v in value):
                return type(value)(map(plain, value))
            return value

        with torch._C.DisableTorchFunctionSubclass():
            result = func(*map(plain, args), **{name: plain(v) for name, v in kwargs.items()})
        keeps = dtype is None and isinstance(result, Tensor) and result.dtype is torch.float64
        return result.as_subclass(cls) if keeps else result


def _power(base: Any, exponent: Any) -> Any:
    """Power of a number and a parameter, element by element as Python computes it.

    The last bit of `torch.pow` depends on the place of the element in its batch.
    """
    of_base = isinstance(base, ParameterTensor)
    parameter = base if of_base else exponent
    elements, places = parameter.as_subclass(Tensor).unique(return_inverse=True)
    try:
        powers = [math.pow(*((x, exponent) if of_base else (base, x))) for x in elements.tolist()]
    except (OverflowError, ValueError):  # infinite, or of a negative number
        return torch.pow(base, exponent)
    numbers = torch.tensor(powers, dtype=torch.float64, device=places.device)
    return ParameterTensor.of(numbers[places])


def _tensors(values: Iterable[Any]) -> list[Tensor]:
    """Tensors among the arguments, also those in lists and tuples."""
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, (tuple, list)):
            found += [each for each in value if isinstance(each, Tensor)]
    return found
