"""Output folder of a calibration: result as JSON, figure as PNG, scenario with fitted values."""

from __future__ import annotations

import copy
import dataclasses
import itertools
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
    """Create the output folder and return it.

    Raises:
        UserError: not empty, or not writable.
    """
    with atomic_files.translate_write_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()):
            message = f"{out} is not empty: calibration needs a new or empty folder"
            raise UserError(message, code="not_writable", path=str(out))
    return out


def default_folder(name: str) -> Path:
    """New folder under `runs/` for a scenario with this name."""
    base = Path("runs") / name / f"{utc_timestamp()}-calibration"
    folders = (base.with_name(f"{base.name}-{n}" if n else base.name) for n in itertools.count())
    return next(folder for folder in folders if not folder.exists())


def write_calibration(folder: Path, loaded: LoadedScenario, result: CalibrationResult) -> None:
    """Write all files of a calibration. The user's scenario file is not changed."""
    from mores.experiments.calibration.plotting import calibration_figure_png

    fitted = with_fitted_values(loaded, result)
    atomic_files.write_text(folder / "calibrated.yaml", fitted)
    content = dataclasses.asdict(result) | {"folder": None}
    content = {"provenance": collect_provenance(fitted, result.seed, jobs=1), **content}
    atomic_files.write_json(folder / "calibration.json", content)
    atomic_files.write_bytes(folder / "calibration.png", calibration_figure_png(result))


def with_fitted_values(loaded: LoadedScenario, result: CalibrationResult) -> str:
    """Text of the scenario with the fitted values.

    If the file contains every fitted parameter, only their numbers change and comments stay.
    Otherwise the scenario is dumped from its document, with overrides.
    """
    values = {path: float(f"{v:.{SIGNIFICANT_DIGITS}g}") for path, v in result.values.items()}
    if (text := _replace_in_text(loaded, values)) is not None:
        return text
    document: Any = copy.deepcopy(dict(loaded.document))
    for path, value in values.items():
        node = document
        *parents, leaf = path.split(".")
        for key in parents:
            node = node.setdefault(key, {})
        node[leaf] = value
    return dump(document)


def _replace_in_text(loaded: LoadedScenario, values: dict[str, float]) -> str | None:
    """Text of the file with new numbers; None if the file does not contain all of them."""
    lines, source_map = loaded.text.splitlines(keepends=True), loaded.source_map
    edits = []
    for path, value in values.items():
        keys = tuple(path.split("."))
        location, raw_text = source_map.value_locations.get(keys), source_map.raw_texts.get(keys)
        if loaded.overrides or location is None or raw_text is None or not location.line:
            return None
        edits.append((location.line - 1, location.column - 1, raw_text, value))
    for row, column, raw_text, value in sorted(edits, reverse=True):
        before, after = lines[row][:column], lines[row][column:]
        if not after.startswith(raw_text):
            return None
        lines[row] = before + repr(value) + after.removeprefix(raw_text)
    return "".join(lines)
