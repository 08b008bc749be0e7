"""The scenarios of language models in a society and in a shop, with a tiny model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mores.experiments.run import run_scenario
from mores.experiments.scenario.loading import load_scenario

SCENARIOS = Path(__file__).resolve().parents[2] / "scenarios"


def run(name: str, folder: Path, *overrides: str) -> tuple[dict[str, Any], list[Any]]:
    """Metrics of every arm, and the verdicts."""
    loaded = load_scenario(SCENARIOS / f"{name}.yaml", ["model=tiny", *overrides])
    result = run_scenario(loaded, folder / name, progress=False)
    cells = {}
    for cell in result.folder.glob("cells/*"):
        rows = pd.read_parquet(cell / "metrics.parquet")
        rows = rows.astype({"metric": str})
        cells[cell.name] = rows.set_index(["replicate", "round", "metric"])["value"].sort_index()
    return cells, result.verdicts


pytestmark = pytest.mark.full  # each runs a scenario of language models


@pytest.fixture(scope="module")
def society(tmp_path_factory):
    few = ("replicates=2", "rounds=2", "env.max_bytes=24")
    short = ("policies.writer.max_new_tokens=6", "policies.assistant.max_new_tokens=6")
    return run("llm_society", tmp_path_factory.mktemp("society"), *few, *short)


def test_an_unread_assistant_changes_nothing(society):
    cells, verdicts = society
    silent, unread = (
        cells[arm][~cells[arm].index.get_level_values("metric").str.contains("assistant|reply")]
        for arm in ("silent", "unread")
    )
    assert (0, 2, "attitude[3]") in silent.index
    pd.testing.assert_series_equal(silent, unread, check_exact=True)
    assert cells["unread"].xs((0, 2, "reply_bytes")) > 0  # it does write
    assert verdicts[0].status == "holds"


def test_a_read_assistant_changes_what_people_state(society):
    cells = society[0]
    last = {arm: cells[arm].xs((0, 2, "mean_value[0]")) for arm in cells}
    names = ("silent", "neutral", "one_sided", "statement", "rule_silent", "rule_one_sided")
    assert len({last[arm] for arm in names}) == len(names)
    assert last["rule_one_sided"] > last["rule_silent"]
    start = {arm: cells[arm].xs((0, 0, "mean_value[0]")) for arm in cells}
    assert len(set(start.values())) == 1


@pytest.mark.full
def test_shop_scenario(tmp_path):
    cells, _ = run("llm_tin_men", tmp_path, "replicates=2")
    pd.testing.assert_series_equal(cells["both"], cells["again"], check_exact=True)
    assert (cells["both"].xs("observed_missing", level="metric").dropna() <= 1).all()
    assert pd.isna(cells["taboo_both"].xs((0, 1, "observed_customer_share")))
