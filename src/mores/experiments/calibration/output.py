"""What a calibration leaves on disk: figures as JSON, a picture, the scenario as fitted."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

from mores.core.errors import UserError
from mores.experiments.calibration.result import CalibrationResult
from mores.experiments.results import atomic_files
from mores.experiments.results.provenance import collect_provenance, utc_timestamp
from mores.experiments.scenario.loading import LoadedScenario
from mores.experiments.scenario.strict_yaml import dump

SIGNIFICANT_DIGITS = 6  # of a fitted value in the scenario


def make_output_folder(out: Path) -> Path:
    """Make the folder to write into.

    Raises:
        UserError: it is not empty, or cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()):
            message = f"{out} is not empty: a calibration writes into a new or empty folder"
            raise UserError(message, code="not_writable", path=str(out))
    except OSError as error:
        message = f"cannot write to {out}: {error.strerror or error}"
        raise UserError(message, code="not_writable", path=str(out)) from None
    return out


def default_folder(name: str) -> Path:
    """A folder of its own under `runs/`."""
    first = Path("runs") / name / f"{utc_timestamp()}-calibration"
    folder, number = first, 0
    while folder.exists():
        number += 1
        folder = first.with_name(f"{first.name}-{number}")
    return folder


def write_calibration(folder: Path, loaded: LoadedScenario, result: CalibrationResult) -> None:
    """Write everything; the user's own file is left as it is."""
    from mores.experiments.calibration.plotting import calibration_figure_png

    fitted = with_fitted_values(loaded, result)
    atomic_files.write_text(folder / "calibrated.yaml", fitted)
    told = dataclasses.asdict(result) | {"folder": None}
    told = {"provenance": collect_provenance(fitted, result.seed, jobs=1), **told}
    atomic_files.write_json(folder / "calibration.json", told)
    atomic_files.write_bytes(folder / "calibration.png", calibration_figure_png(result))


def with_fitted_values(loaded: LoadedScenario, result: CalibrationResult) -> str:
    """The scenario file with the fitted values put in.

    Where the file writes a parameter out, its number is exchanged and all else stays as it was
    written, comments too. Otherwise the scenario is written anew.
    """
    numbers = {path: float(f"{v:.{SIGNIFICANT_DIGITS}g}") for path, v in result.values.items()}
    return _replace_in_text(loaded, numbers) or _dump_with_values(loaded, numbers)


def _replace_in_text(loaded: LoadedScenario, values: dict[str, float]) -> str | None:
    """The file's text with other numbers; `None` where one of them is not written out in it."""
    lines = loaded.text.splitlines(keepends=True)
    places = []
    for path, number in values.items():
        keys = tuple(path.split("."))
        place, written = (
            loaded.source_map.value_locations.get(keys),
            loaded.source_map.raw_texts.get(keys),
        )
        if loaded.overrides or place is None or written is None or not place.line:
            return None
        places.append((place.line - 1, place.column - 1, written, number))
    for row, column, written, number in sorted(places, reverse=True):
        line = lines[row]
        if not line[column:].startswith(written):
            return None
        lines[row] = line[:column] + repr(number) + line[column + len(written) :]
    return "".join(lines)


def _dump_with_values(loaded: LoadedScenario, values: dict[str, float]) -> str:
    """The scenario as a new file: overrides and fitted values in it, comments gone."""
    document: Any = copy.deepcopy(dict(loaded.document))
    for path, number in values.items():
        node = document
        *way, last = path.split(".")
        for part in way:
            node = node.setdefault(part, {})
        node[last] = number
    return dump(document)
