"""Numbers that differ between people or worlds, and otherwise behave as a Python number does.

A Python number takes the dtype of the tensor that it meets: `0.3 * float32` is float32, after
arithmetic among Python numbers in double precision. A `ParameterTensor` does the same. Code that is
written for a parameter that is one number, such as `(1.0 - self.susceptibility) * anchor`, then
works for one that differs, and gives a person the same bits as that person's number alone would.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

# A number has no elements to select: of a `ParameterTensor` these give another one.
_SELECTIONS = frozenset(
    {
        *(Tensor.__getitem__, Tensor.gather, torch.gather),
        *(Tensor.index_select, torch.index_select, Tensor.take_along_dim, torch.take_along_dim),
    }
)


class ParameterTensor(Tensor):
    """A float64 tensor that takes the dtype of other floating-point tensors that it meets.

    With tensors of integers or booleans alone the result has the default dtype, as a number's has.
    Without other tensors it is another `ParameterTensor`, and so it is where elements are selected.

    Its truth value is true, as that of a number other than 0: whether it is 0 for some is not
    decided by a branch. `p += x` gives a new tensor and does not modify `p`.
    """

    @classmethod
    def of(cls, numbers: Tensor) -> ParameterTensor:
        """The numbers, in float64."""
        return numbers.to(torch.float64).as_subclass(cls)

    def __bool__(self) -> bool:
        if self.dtype is torch.bool:
            return bool(self.as_subclass(Tensor))  # of a comparison: one element, or an error
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
        """Compute with plain tensors of the dtype that a number in its place would take."""
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
    """The tensors among arguments, and in lists and tuples among them."""
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, (tuple, list)):
            found += [each for each in value if isinstance(each, Tensor)]
    return found
