"""Whether our CartPole is Gymnasium's: whole episodes side by side."""

from __future__ import annotations

import gymnasium
import numpy as np
import torch

from benchmarks.cart_pole import Cart, CartPole
from mores.core.random_streams import RandomStreams

WORLDS = 16
CLOSE = 1e-5
STRETCH = 100  # rounds


def same_cart_pole() -> float:
    """By how much places, speeds and angles differ, at most.

    Whole episodes, with pushes of which a world's share is at random, so that some fall soon and
    some stand to the end. The pole is unstable: rounding grows by 8 % a round, and by 1e17 in 500.
    So we begin anew from Gymnasium's state every 100 rounds in double precision, as Gymnasium
    computes, and every round in single precision, in which we learn.

    Raises:
        AssertionError: by too much, or an episode ends at another time.
    """
    game, draws = CartPole(), RandomStreams.of(0, WORLDS)
    begin = game.reset(draws)
    ours = Cart(begin.now.double(), begin.rounds)
    theirs = [gymnasium.make("CartPole-v1") for _ in range(WORLDS)]
    for env, start in zip(theirs, ours.now, strict=True):
        env.reset()
        env.unwrapped.state = start.numpy().copy()  # type: ignore[attr-defined]
    random = np.random.default_rng(0)
    stands, stood = np.ones(WORLDS, dtype=bool), np.zeros(WORLDS)
    worst = 0.0
    while stands.any():
        states = np.array([env.unwrapped.state for env in theirs])  # type: ignore[attr-defined]
        if stood.max() % STRETCH == 0:
            ours = Cart(torch.from_numpy(states), ours.rounds)
        now = torch.from_numpy(states)
        leans = (now[:, 2] + 0.5 * now[:, 3] + 0.1 * now[:, 1] + 0.05 * now[:, 0] > 0).numpy()
        anyhow = random.random(WORLDS) < np.linspace(0, 0.5, WORLDS)
        acts = np.where(anyhow, random.integers(2, size=WORLDS), leans)
        pushes = {"player": torch.from_numpy(acts)[:, None]}
        once = game.step(Cart(now.float(), ours.rounds), "push", pushes, draws)
        step = game.step(ours, "push", pushes, draws)
        ours = step.state
        assert step.terminated is not None
        for world in np.flatnonzero(stands):
            _, reward, fell, cut, _ = theirs[world].step(int(acts[world]))
            state = np.array(theirs[world].unwrapped.state)  # type: ignore[attr-defined]
            for mine in (ours, once.state):
                worst = max(worst, float(np.abs(mine.now[world].numpy() - state).max()))
            assert reward == float(step.reward["player"][world, 0]), "rewards differ"
            assert fell == bool(step.terminated[world]), f"world {world} ends at another time"
            stood[world] += 1
            stands[world] = not (fell or cut)
            assert cut == (stood[world] == 500), "they are cut off at another time"
    assert worst < CLOSE, f"ours and Gymnasium's differ by {worst}"
    assert stood.min() < 100 and stood.max() == 500, "some should fall and some stand"
    return worst
