"""`llm_biased_raters` at a small size: a random Llama, a small table, 16 trainings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mores.experiments.run import run_scenario
from mores.experiments.scenario.loading import load_scenario

TABLE = Path(__file__).with_name("small_replies.csv")
SMALL = (
    "model=tiny",
    "policies.assistant.adapters={layers: 1, rank: 4, target_modules: [q_proj, v_proj]}",
    "policies.assistant.objective={kind: dpo, learning_rate: 0.01, beta: 0.3, batch_size: 8}",
    f"env={{kind: reply_ratings, num_pairs: 8, biased_share: 0.25, path: {TABLE}}}",
    "stages.0.episodes=8",
    "figures=[]",
    "arms={untrained: {policies.assistant.objective.learning_rate: 0}, "
    "none: {env.biased_on: none}, cued: {}, same: {env.biased_share: 0}}",
    "claims=[{statement: Equal, kind: exact, arm: same, compare_to: none, stage: test, "
    "metric: log_odds_held_out, bound: {within: [0, 0]}}]",
)
SETS = ("held_out", "held_out_cue", "other_wording")

pytestmark = pytest.mark.full  # each runs a scenario of language models


@pytest.fixture(scope="module")
def metrics(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Metrics at the end, `[arm, replicate]` by name."""
    out = tmp_path_factory.mktemp("run") / "run"
    result = run_scenario(load_scenario("llm_biased_raters", SMALL), out, progress=False)
    assert [(v.estimate.n, v.status) for v in result.verdicts] == [(16, "holds")]
    frames = []
    for arm in ("untrained", "none", "cued", "same"):
        frame = pd.read_parquet(out / "cells" / arm / "metrics.parquet")
        frames.append(frame[frame["stage"] == "test"].assign(arm=arm))
    found = pd.concat(frames)
    found = found[found["round"] == found["round"].max()]
    return found.pivot_table(
        index=["arm", "replicate"], columns="metric", values="value", observed=True
    )


def test_an_arm_without_effect_is_its_twin(metrics):
    """Bit for bit, after 8 updates of each of 16 adapters."""
    names = [f"{kind}_{name}" for kind in ("log_odds", "belief") for name in SETS]
    available = [name for name in names if name in metrics]
    assert len(available) >= 5
    pd.testing.assert_frame_equal(
        metrics.loc["same", available], metrics.loc["none", available], check_exact=True
    )


def test_training_changes_the_odds(metrics):
    """Honest raters lower the odds of flattery; biased raters on cued prompts raise them there."""
    odds: dict[str, Any] = {arm: metrics.loc[arm] for arm in ("untrained", "none", "cued")}
    start = odds["untrained"]["log_odds_held_out_cue"]
    assert start.nunique() == 1  # adapters begin as the base model
    honest = odds["none"]["log_odds_held_out_cue"] - start
    biased = odds["cued"]["log_odds_held_out_cue"] - odds["none"]["log_odds_held_out_cue"]
    for effect, sign in ((honest, -1), (biased, 1)):
        assert sign * effect.mean() > 3 * effect.std() / 16**0.5
