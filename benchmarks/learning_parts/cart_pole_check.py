"""Comparison of `benchmarks.cart_pole.CartPole` with Gymnasium's, over whole episodes."""

from __future__ import annotations

import gymnasium
import numpy as np
import torch

from benchmarks.cart_pole import CartPole, CartState
from mores.core.random_streams import RandomStreams

WORLDS = 16
TOLERANCE = 1e-5
SYNC_ROUNDS = 100


def check_cart_pole() -> float:
    """Maximum difference of positions, velocities and angles from Gymnasium's CartPole.

    Episodes are whole; a share of the pushes is random, different for each world, so that some
    poles fall early and some stand to the end. The pole is unstable: rounding errors grow by 8 % a
    round, and by 1e17 in 500. Therefore the state is set to Gymnasium's every 100 rounds in double
    precision, Gymnasium's precision, and every round in single precision, that of training.

    Raises:
        AssertionError: a difference above the tolerance, or different ends of an episode.
    """
    environment, streams = CartPole(), RandomStreams.of(0, WORLDS)
    initial = environment.reset(streams)
    ours = CartState(initial.physics.double(), initial.rounds)
    gymnasium_envs = [gymnasium.make("CartPole-v1") for _ in range(WORLDS)]
    for env, start in zip(gymnasium_envs, ours.physics, strict=True):
        env.reset()
        env.unwrapped.state = start.numpy().copy()  # type: ignore[attr-defined]
    generator = np.random.default_rng(0)
    active, length = np.ones(WORLDS, dtype=bool), np.zeros(WORLDS)
    largest = 0.0
    while active.any():
        states = np.array([env.unwrapped.state for env in gymnasium_envs])  # type: ignore
        if length.max() % SYNC_ROUNDS == 0:
            ours = CartState(torch.from_numpy(states), ours.rounds)
        now = torch.from_numpy(states)
        leans = (now[:, 2] + 0.5 * now[:, 3] + 0.1 * now[:, 1] + 0.05 * now[:, 0] > 0).numpy()
        random = generator.random(WORLDS) < np.linspace(0, 0.5, WORLDS)
        actions = np.where(random, generator.integers(2, size=WORLDS), leans)
        pushes = {"player": torch.from_numpy(actions)[:, None]}
        single = environment.step(CartState(now.float(), ours.rounds), "push", pushes, streams)
        double = environment.step(ours, "push", pushes, streams)
        ours = double.state
        assert double.terminated is not None
        for world in np.flatnonzero(active):
            _, reward, fell, truncated, _ = gymnasium_envs[world].step(int(actions[world]))
            expected = np.array(gymnasium_envs[world].unwrapped.state)  # type: ignore
            for state in (ours, single.state):
                largest = max(largest, float(np.abs(state.physics[world].numpy() - expected).max()))
            assert reward == float(double.reward["player"][world, 0]), "rewards differ"
            assert fell == bool(double.terminated[world]), f"ends of world {world} differ"
            length[world] += 1
            active[world] = not (fell or truncated)
            assert truncated == (length[world] == 500), "time limits differ"
    assert largest < TOLERANCE, f"states differ by {largest}"
    assert length.min() < 100 and length.max() == 500, "no mix of short and full episodes"
    return largest
