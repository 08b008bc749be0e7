"""What a calibration leaves on disk: figures as JSON, a picture, the scenario as fitted."""

from __future__ import annotations

import copy
import dataclasses
import math
from pathlib import Path
from typing import Any

import yaml

from mores.calibrate.result import Calibrated
from mores.errors import UserError
from mores.run import store
from mores.run.provenance import now, provenance
from mores.scenario import strict_yaml
from mores.scenario.load import Loaded

DIGITS = 6  # of a fitted value in the scenario


def new_folder(out: Path) -> Path:
    """Make the folder to write into.

    Raises:
        UserError: it is not empty, or cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()):
            raise UserError(f"{out} is not empty: a calibration writes into a new or empty folder")
    except OSError as error:
        raise UserError(f"cannot write to {out}: {error.strerror or error}") from None
    return out


def default_folder(name: str) -> Path:
    """A folder of its own under `runs/`."""
    first = Path("runs") / name / f"{now()}-calibration"
    folder, number = first, 0
    while folder.exists():
        number += 1
        folder = first.with_name(f"{first.name}-{number}")
    return folder


def write(folder: Path, loaded: Loaded, result: Calibrated) -> None:
    """Write everything; the user's own file is left as it is."""
    from mores.calibrate.picture import picture

    fitted = with_values(loaded, result)
    store.write_text(folder / "calibrated.yaml", fitted)
    told = dataclasses.asdict(result) | {"folder": None}
    told = {"provenance": provenance(fitted, result.seed, jobs=1), **told}
    store.write_json(folder / "calibration.json", _plain(told))
    (folder / "calibration.png").write_bytes(picture(result))


def with_values(loaded: Loaded, result: Calibrated) -> str:
    """The scenario file with the fitted values put in.

    Where the file writes a parameter out, its number is exchanged and all else stays as it was
    written, comments too. Otherwise the scenario is written anew.
    """
    numbers = {path: float(f"{v:.{DIGITS}g}") for path, v in result.values.items()}
    return _exchanged(loaded, numbers) or _rewritten(loaded, numbers)


def _exchanged(loaded: Loaded, numbers: dict[str, float]) -> str | None:
    """The file's text with other numbers; `None` where one of them is not written out in it."""
    lines = loaded.text.splitlines(keepends=True)
    places = []
    for path, number in numbers.items():
        keys = tuple(path.split("."))
        place, written = loaded.places.values.get(keys), loaded.places.texts.get(keys)
        if loaded.overrides or place is None or written is None or not place.line:
            return None
        places.append((place.line - 1, place.column - 1, written, number))
    for row, column, written, number in sorted(places, reverse=True):
        line = lines[row]
        if not line[column:].startswith(written):
            return None
        lines[row] = line[:column] + repr(number) + line[column + len(written) :]
    return "".join(lines)


def _rewritten(loaded: Loaded, numbers: dict[str, float]) -> str:
    """The scenario as a new file: overrides and fitted values in it, comments gone."""
    document: Any = copy.deepcopy(dict(loaded.document))
    for path, number in numbers.items():
        node = document
        *way, last = path.split(".")
        for part in way:
            node = node.setdefault(part, {})
        node[last] = number
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


class _Dumper(yaml.SafeDumper):
    """Quotes texts that the core schema of YAML 1.2 would read as something else; no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write equal parts out each time."""
        return True


def _quoted(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = None if strict_yaml.type_of(text) == "str" else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)


_Dumper.add_representer(str, _quoted)


def _plain(told: Any) -> Any:
    """The same without numbers that JSON has not."""
    if isinstance(told, dict):
        return {key: _plain(value) for key, value in told.items()}
    if isinstance(told, (list, tuple)):
        return [_plain(value) for value in told]
    if isinstance(told, float) and not math.isfinite(told):
        return None
    return told
