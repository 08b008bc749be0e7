"""The commit of an extension: the new files of a run, until they have replaced the earlier ones.

Several files of a run change together: the scenario, `run.json`, `cells.json`, ... They are written
into the folder `extension` of the run, which appears at once and complete: from then on the run
is extended. They are then copied to their places, cells that grow are moved aside, verdicts on the
earlier data are removed, and `extension` is removed last. Every step can be repeated: a process
that was killed in between leaves a folder from which `resume` or `extend` continues.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mores.core.errors import UserError, unreadable
from mores.experiments.results import atomic_files
from mores.experiments.results.cell_identity import CellIdentity
from mores.experiments.results.checked_files import (
    MAX_JSON_BYTES,
    CheckedFolder,
    is_plain_name,
    parse_json,
)
from mores.experiments.results.provenance import short_hash
from mores.experiments.results.run_manifest import (
    CELLS_FILE,
    EXTENSION,
    MANIFEST,
    RunManifest,
    digest_of,
    manifest_in,
)
from mores.experiments.run.earlier_cell import set_cell_aside
from mores.experiments.run.run_folder import EXTENDED, NEW_FILES

STALE_FILES = ("claims.json", "report.html", "sensitivity.json")  # of the earlier data


class Extension(NamedTuple):
    """The new files of a run.

    Attributes:
        manifest: its `run.json`.
        scenario_text, resolved_text, cells_text: contents of files.
        provenance: its `provenance.json`.
    """

    manifest: RunManifest
    scenario_text: str
    resolved_text: str
    cells_text: str
    provenance: Mapping[str, Any]


def commit_extension(folder: Path, extension: Extension) -> None:
    """Write the new files of a run, all at once.

    Raises:
        WriteError: they cannot be written; the run is as before.
    """
    with atomic_files.atomic_folder(folder / EXTENSION) as temporary:
        atomic_files.write_text(temporary / "scenario.yaml", extension.scenario_text)
        atomic_files.write_text(temporary / "resolved.yaml", extension.resolved_text)
        atomic_files.write_text(temporary / CELLS_FILE, extension.cells_text)
        atomic_files.write_sealed_json(temporary / "provenance.json", extension.provenance)
        manifest = extension.manifest.model_dump(mode="json")
        atomic_files.write_sealed_json(temporary / MANIFEST, manifest)
        digest = digest_of(CheckedFolder(folder).read(MANIFEST, MAX_JSON_BYTES))
        digests = {MANIFEST: digest, "scenario.yaml": digest_of(extension.scenario_text.encode())}
        atomic_files.write_sealed_json(temporary / EXTENDED, digests)


def apply_pending_extension(folder: Path) -> bool:
    """Complete the extension of a locked run, if there is one; whether there was.

    Raises:
        UserError: its files are damaged, and nothing was changed.
        WriteError: the folder cannot be written; the extension can be completed later.
    """
    files = CheckedFolder(folder)
    if files.kind(EXTENSION) == "":
        return False
    pending = files.folder(EXTENSION)
    contents = {name: pending.read(name, MAX_JSON_BYTES) for name in NEW_FILES}
    digests = pending.read_sealed(EXTENDED)
    if digests.get("scenario.yaml") != digest_of(contents["scenario.yaml"]):
        raise unreadable(pending.path, "its scenario.yaml was changed")
    manifests = {digests.get(MANIFEST), digest_of(contents[MANIFEST])}
    if digest_of(files.read(MANIFEST, MAX_JSON_BYTES)) not in manifests:
        raise unreadable(pending.path, "it is the extension of another run")
    for cell, identity in _verified_identities(pending, contents).items():
        set_cell_aside(folder, cell, identity)
    _mark_stopped(folder)
    with atomic_files.translate_write_errors(folder):
        for name in STALE_FILES:
            (folder / name).unlink(missing_ok=True)
    for name, content in contents.items():
        atomic_files.write_bytes(folder / name, content)
    atomic_files.remove_folder(folder / EXTENSION)
    return True


def _verified_identities(
    pending: CheckedFolder, contents: Mapping[str, bytes]
) -> dict[str, CellIdentity]:
    """The cells of the extended run.

    Raises:
        UserError: a file is damaged, or belongs to another run than the others.
    """
    manifest = manifest_in(pending)
    resolved_hash = pending.read_sealed("provenance.json").get("resolved_hash")
    try:
        text = contents["resolved.yaml"].decode("utf-8")
        contents["scenario.yaml"].decode("utf-8")
        if {short_hash(text), resolved_hash} != {manifest.resolved_hash}:
            raise ValueError("its resolved.yaml belongs to another run")
        if digest_of(contents[CELLS_FILE]) != manifest.cells_digest:
            raise ValueError("its cells.json belongs to another run")
        cells = parse_json(contents[CELLS_FILE])
        if not isinstance(cells, dict) or not all(map(is_plain_name, cells)):
            raise ValueError("its cells.json does not list the cells of a run")
        return {cell: CellIdentity.from_json(entry) for cell, entry in cells.items()}
    except ValueError as error:
        raise unreadable(pending.path, error) from None


def _mark_stopped(folder: Path) -> None:
    """The run is no longer finished, and its final files are removed."""
    try:
        status = CheckedFolder(folder).read_sealed("status.json")
    except UserError:  # absent or damaged: it is written again when the run continues
        return
    if status.get("state") != "stopped" or "files" in status:
        status.pop("files", None)
        atomic_files.write_sealed_json(folder / "status.json", {**status, "state": "stopped"})
