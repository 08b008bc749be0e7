"""Lines that coincide: groups of them, and dashes that alternate between their colors.

Arms with common random numbers may be equal bit for bit, such as a placebo and its control, so that
one line hides the other. Lines coincide if they are nowhere further apart than a part of the line
width. A group of n is drawn as one line whose dashes alternate between the n colors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

SAME_PLACE = 0.006  # of the height of the axes: half of the line width in a panel of 2 inches
PERIOD = 24.0  # line widths, of the dashes of a group
MIN_DASH, MAX_DASH = 1.5, 6.0  # line widths


class Turn(NamedTuple):
    """Place of a line in a group of coinciding lines: its index, and the number of lines."""

    place: int
    size: int

    @property
    def linestyle(self) -> tuple[float, tuple[float, float]]:
        """Dash of this line and gap for the others: matplotlib's offset and pattern."""
        dash = min(max(PERIOD / self.size, MIN_DASH), MAX_DASH)
        gap = (self.size - 1) * dash
        return ((self.size - self.place) % self.size) * dash, (dash, gap)


def coinciding_groups(
    lines: Mapping[str, Float[np.ndarray, " column"]], height: float = 0.0
) -> list[list[str]]:
    """Names of lines that coincide, in groups of two or more.

    Args:
        lines: y of each line at the same x; nan where it has a gap.
        height: range of y that the axes show, or 0: the range of the lines.
    """
    finite = [y[np.isfinite(y)] for y in lines.values()]
    ends = np.concatenate(finite) if finite else np.zeros(0)
    height = max(height, float(np.ptp(ends)) if len(ends) else 0.0)
    groups: list[list[str]] = []
    for name, y in lines.items():
        if not np.isfinite(y).any():
            continue
        for group in groups:
            if _coincide(y, lines[group[0]], SAME_PLACE * height):
                group.append(name)
                break
        else:
            groups.append([name])
    return [group for group in groups if len(group) > 1]


def _coincide(
    y: Float[np.ndarray, " column"], other: Float[np.ndarray, " column"], tolerance: float
) -> bool:
    if y.shape != other.shape or (np.isfinite(y) != np.isfinite(other)).any():
        return False
    shown = np.isfinite(y)
    return bool((np.abs(y[shown] - other[shown]) <= tolerance).all())


def turns(groups: Sequence[Sequence[str]]) -> dict[str, Turn]:
    """Place of each line in its group; only lines that coincide with another have one."""
    return {name: Turn(i, len(group)) for group in groups for i, name in enumerate(group)}


def describe_groups(groups_by_panel: Mapping[str, Sequence[Sequence[str]]]) -> str:
    """Sentences on lines that coincide, for the caption; empty without.

    Args:
        groups_by_panel: groups of names by the title of their panel.
    """
    titles: dict[str, list[str]] = {}  # panels of each group
    for title, groups in groups_by_panel.items():
        for group in groups:
            titles.setdefault(" and ".join(_listing(group)), []).append(title)
    if not titles:
        return ""
    parts = []
    for names, panels in titles.items():
        everywhere = len(panels) == len(groups_by_panel)
        parts.append(names if everywhere else f"{names} (in {', '.join(panels)})")
    return (
        f" Lines that coincide are drawn as one line with alternating colors: {'; '.join(parts)}."
    )


def _listing(names: Sequence[str]) -> list[str]:
    """Quoted names, all but the last as one text."""
    quoted = [f"“{name}”" for name in names]
    return [", ".join(quoted[:-1]), quoted[-1]]
