"""Folders are texts or paths, with spaces and letters of any script.

Reports about peers: the folder of results must be a `Path`, a text fails,
https://github.com/SpikeInterface/spiketoolkit/issues/143; folders with spaces fail,
https://github.com/juliema/aTRAM/issues/166
"""

from __future__ import annotations

from pathlib import Path

import pytest

import mores

SCENARIO = """\
name: paths
about: Folders with odd names.
env:
  kind: coevolution
  num_people: 4
  num_assistants: 0
  peers: {rule: degroot, graph: {kind: file, path: my friends.csv}}
rounds: 2
replicates: 2
metrics: [rms_distance]
"""


@pytest.mark.parametrize("kind", [str, Path])
def test_a_run_in_a_folder_with_an_odd_name(
    tmp_path: Path, kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "my runs, größer 三 & 'more' (50 %)"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / "my friends.csv").write_text("0,1\n1,2\n2,3\n")
    (folder / "my scenario.yaml").write_text(SCENARIO, encoding="utf-8")
    monkeypatch.setattr("mores.report.figures.render", lambda specs: [])  # has its own tests
    loaded = mores.load_scenario(kind(folder / "my scenario.yaml"))
    result = mores.run_scenario(loaded, kind(folder / "out put"), progress=False)
    assert result.folder == folder / "out put"
    for given in (kind(folder / "out put"), f"{folder / 'out put'}/"):
        run = mores.open_run(given)
        assert len(run.dataframe()) == 2 * 3
    assert (folder / "out put" / "report.html").is_file()
