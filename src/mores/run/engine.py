"""Run a scenario: play its cells one after another, judge its claims, write the run's folder."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mores.analysis.verdicts import Verdict
from mores.errors import UserError
from mores.run import store
from mores.run.cells import Record, play_cell
from mores.run.claims import Judged, judge_all
from mores.run.progress import Progress
from mores.run.provenance import now, provenance, short_hash
from mores.scenario.cell import Cell
from mores.scenario.expand import check, recorded_rounds, resolved
from mores.scenario.load import Loaded
from mores.scenario.model import Scenario


@dataclasses.dataclass(frozen=True)
class Result:
    """What a run came to.

    Attributes:
        folder: where it is on disk.
        verdicts: one for each claim of the scenario, in its order.
        arms: the arm each of them is about.
    """

    folder: Path
    verdicts: list[Verdict]
    arms: list[str]

    @property
    def failed(self) -> bool:
        """Whether any claim failed. One that is undecided did not pass, and did not fail."""
        return any(verdict.verdict == "fails" for verdict in self.verdicts)

    @property
    def report(self) -> Path:
        """The report."""
        return self.folder / "report.html"


def run(
    loaded: Loaded,
    out: Path | None = None,
    only: Sequence[int] | None = None,
    progress: bool = True,
) -> Result:
    """Run a scenario.

    Args:
        loaded: the scenario, from `mores.load_scenario`.
        out: folder to write into, new or empty; by default one of its own under `runs/`.
        only: replicates to play, by number; by default all.
        progress: show how far it is.

    Raises:
        UserError: the scenario cannot be run, and nothing was written; or the folder cannot be
            written any more, and its `status.json` says where the run stopped.
    """
    scenario = loaded.scenario
    cells = check(loaded)
    replicates = _chosen(scenario, only)
    text = resolved(scenario, cells)
    folder = _make_folder(scenario, text, out)
    with _one_thread():
        origin = provenance(text, scenario.seed)
    store.write_text(folder / "scenario.yaml", loaded.text)
    store.write_text(folder / "resolved.yaml", text)
    store.write_json(folder / "provenance.json", origin)
    index = {cell.id: {"arm": cell.arm, "point": dict(cell.point)} for cell in cells}
    store.write_json(folder / "cells.json", index)
    log = _Log(folder / "log.txt")
    began = time.monotonic()
    try:
        records = _play_all(scenario, cells, replicates, folder, log, progress)
        claims = judge_all(scenario, cells, records)
        judged = [claim.verdict for claim in claims]
        arms = [claim.arm for claim in claims]
        store.write_json(folder / "claims.json", [_plain(claim) for claim in claims])
        origin |= {"finished": now(), "seconds": round(time.monotonic() - began, 2)}
        store.write_json(folder / "provenance.json", origin)
        _report(folder, scenario, cells, records, judged, origin)
        _status(folder, "done", cells, len(cells))
        log.line(f"done in {origin['seconds']} s")
    except BaseException as error:
        with contextlib.suppress(UserError):
            _status(folder, "stopped", cells, log.cells)
            log.line(f"stopped: {type(error).__name__}: {error}")
        raise
    return Result(folder, judged, arms)


def _play_all(
    scenario: Scenario,
    cells: Sequence[Cell],
    replicates: Sequence[int],
    folder: Path,
    log: _Log,
    progress: bool,
) -> dict[str, Record]:
    rounds = recorded_rounds(scenario)
    records: dict[str, Record] = {}
    with _one_thread(), Progress(scenario.name, len(cells), progress) as bar:
        for number, cell in enumerate(cells):
            _status(folder, "running", cells, number)
            began = time.monotonic()
            bar.begin(cell.id)
            record = play_cell(cell, scenario, rounds, replicates, bar.advance)
            store.write_record(folder / "cells" / cell.id, record)
            bar.end()
            records[cell.id] = record
            log.cells = number + 1
            log.line(f"{cell.id}: {time.monotonic() - began:.2f} s")
    return records


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Small tensors are quicker on one thread, and sums do not depend on how many there are."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _chosen(scenario: Scenario, only: Sequence[int] | None) -> list[int]:
    if only is None:
        return list(range(scenario.replicates))
    chosen = sorted(set(only))
    if not chosen or chosen[0] < 0 or chosen[-1] >= scenario.replicates:
        raise UserError(f"replicates run from 0 to {scenario.replicates - 1}, not {list(only)}")
    return chosen


def _make_folder(scenario: Scenario, text: str, out: Path | None) -> Path:
    if out is not None:
        try:
            out.mkdir(parents=True, exist_ok=True)
            if any(out.iterdir()):
                raise UserError(f"{out} is not empty: a run writes into a new or empty folder")
            (out / "cells").mkdir()  # fails if another run has begun here
        except OSError as error:
            raise UserError(f"cannot write to {out}: {error.strerror or error}") from None
        return out
    first = Path("runs") / scenario.name / f"{now()}-{short_hash(text)}"
    for number in range(1000):
        folder = first.with_name(f"{first.name}-{number}") if number else first
        try:
            folder.mkdir(parents=True)
            (folder / "cells").mkdir()
        except FileExistsError:
            continue  # the same scenario was begun in the same second
        except OSError as error:
            raise UserError(f"cannot write to {folder}: {error.strerror or error}") from None
        return folder
    raise UserError(f"{first} and 999 names beside it are taken")


def _status(folder: Path, state: str, cells: Sequence[Cell], finished: int) -> None:
    done = [cell.id for cell in cells[:finished]]
    todo = [cell.id for cell in cells[finished:]]
    store.write_json(
        folder / "status.json", {"state": state, "at": now(), "done": done, "to_do": todo}
    )


def _plain(judged: Judged) -> dict[str, Any]:
    """A claim as JSON: over all points, and at each of them."""
    claim = judged.verdict.claim
    told = {"says": claim.says, "arm": judged.arm, **_figures(judged.verdict)}
    told["claim"] = claim.model_dump(mode="json", exclude_none=True)
    if len(judged.by_point) > 1:
        pairs = zip(judged.points, judged.by_point, strict=True)
        told["points"] = [{"point": dict(point), **_figures(verdict)} for point, verdict in pairs]
    return told


def _figures(verdict: Verdict) -> dict[str, Any]:
    estimate = verdict.estimate
    return {
        "verdict": verdict.verdict,
        "reason": verdict.reason,
        "estimate": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "n": estimate.n,
        "method": estimate.method,
    }


def _report(folder: Path, *rest: Any) -> None:
    from mores.run.report import write_report

    write_report(folder, *rest)


class _Log:
    """A plain log, a line at a time."""

    def __init__(self, path: Path) -> None:
        self.path, self.cells = path, 0

    def line(self, text: str) -> None:
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(f"{now()} {text}\n")
        except OSError as error:
            raise UserError(f"cannot write {self.path}: {error.strerror or error}") from None
