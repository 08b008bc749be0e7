"""Opens the logs of one or several trackers."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mores import registry
from mores.core.errors import UserError, describe_exception
from mores.core.tracker import Log, Tracker
from mores.registry.specs import from_spec

LOGS_FOLDER = "logs"


def trackers_of(track: Any) -> tuple[Tracker, ...]:
    """Trackers by name, `kind` and parameters, or as objects; one, a list of them, or none.

    Raises:
        UserError: an unknown name or wrong parameters; a library is not installed.
    """
    if track is None:
        return ()
    given = track if isinstance(track, (list, tuple)) else (track,)
    trackers = tuple(from_spec("tracker", each, "track") for each in given)
    for tracker in trackers:
        _check_installed(tracker)
    return trackers


@contextlib.contextmanager
def open_logs(
    trackers: Sequence[Tracker], name: str, folder: Path, parameters: Mapping[str, object]
) -> Iterator[Log]:
    """One log that writes to all trackers. Name and folder: those of the tracker, or these.

    Raises:
        UserError: a tracker fails.
    """
    logs: list[tuple[Tracker, Log]] = []
    with contextlib.ExitStack() as stack:
        for tracker in trackers:
            own_folder = Path(tracker.folder) if tracker.folder else folder
            with _named_errors(tracker):
                opened = tracker.open(tracker.name or name, own_folder, parameters)
                logs.append((tracker, stack.enter_context(opened)))

        def log(step: int, values: Mapping[str, float]) -> None:
            for tracker, write in logs:
                with _named_errors(tracker):
                    write(step, values)

        yield log


@contextlib.contextmanager
def _named_errors(tracker: Tracker) -> Iterator[None]:
    """Name the tracker in errors."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        kind = registry.kind_of("tracker", tracker) or type(tracker).__name__
        message = f"track: {kind} fails: {describe_exception(error)}"
        raise UserError(message, code="failed", path="track") from error


def tracker_specs(track: Any) -> tuple[dict[str, Any], ...]:
    """Trackers as data, for other processes: see `trackers_of`.

    Raises:
        UserError: also if the class of an object is not registered.
    """
    return tuple(registry.to_spec("tracker", each) for each in trackers_of(track))


def _check_installed(tracker: Tracker) -> None:
    for module in tracker.modules:
        if importlib.util.find_spec(module) is None:
            raise UserError(
                f"track: {module} is not installed: pip install 'mores[track]'",
                code="not_installed",
                path="track",
            )
