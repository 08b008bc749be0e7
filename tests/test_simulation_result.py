"""`simulate`, `train` and runs return a metric under one name, with the same labels."""

from __future__ import annotations

import numpy as np

import mores
from tests.refusals import refused


def test_metrics_and_latent_quantities_are_labelled() -> None:
    environment = mores.make_environment("lock_in", num_people=3)
    worlds = mores.Worlds.grid(2, 2)
    result = mores.simulate(
        environment,
        worlds=worlds,
        rounds=5,
        metrics=["drift", "mean_value"],
        metric_rounds=[0, 5],
        latent=["truth", "belief"],
        latent_rounds=[1, 2, 5],
        record_worlds=3,
    )
    assert result.metrics["drift"].dims == ("world", "round")
    assert result.metrics["mean_value"].dims == ("world", "round", "mean_value_component")
    assert result.metrics["round"].values.tolist() == [0, 5]
    assert result.metrics["replicate"].values.tolist() == [0, 0, 1, 1]
    assert result.latent["truth"].dims == ("world", "round")
    belief = result.latent["belief"]
    assert belief.dims == ("world", "round", "belief_component")
    assert belief.shape == (3, 3, 4)
    assert belief["replicate"].values.tolist() == [0, 0, 1]
    last = environment.latent(result.state)["belief"][:3]
    assert np.array_equal(belief[:, -1], last)
    with refused("unknown_name", "latent"):
        mores.simulate(environment, rounds=1, latent=["truths"])
    with refused("out_of_range", "record_worlds"):
        mores.simulate(environment, rounds=1, record_worlds=0)
