"""AI-control protocols played task by task with numpy: an oracle that shares no code with mores."""

from __future__ import annotations

import numpy as np
from scipy.stats import norm

DETECTABILITY = np.array([0.0, 3.0, 2.0, 1.0])  # of option 0 (honest) and of three levels
SUCCESS = np.array([0.0, 1.0, 0.6, 0.25])


def play(protocol, options, episodes, seed, alpha=1.0, e=0.8, share=1.0):
    """Whether each episode had a success, and whether U was caught.

    `protocol(rng, attacks, shift)` maps which draws of one task are attacks, `[episode, draw]`, to
    three indicators: an attack is executed, the work is audited, the work is edited.
    """
    rng = np.random.default_rng(seed)
    lost, caught = np.zeros(episodes, bool), np.zeros(episodes, bool)
    for option in options:
        attacks = np.zeros((episodes, protocol.draws), bool)
        if option:
            attacks = rng.random(attacks.shape) < share
        executed, audited, edited = protocol(rng, attacks, DETECTABILITY[option])
        found = audited & attacks.any(1) & (rng.random(episodes) < alpha)
        works = executed & (rng.random(episodes) < SUCCESS[option]) & ~found
        works &= ~(edited & (rng.random(episodes) < e))
        active = ~lost & ~caught
        lost |= active & works
        caught |= active & found
    return lost, caught


class Routed:
    """Audit the highest scores, edit or defer the next."""

    draws = 1

    def __init__(self, audit=0.0, edit=0.0, defer=0.0, factor=1.0, collusion=0.0, random=False):
        self.audit, self.edit, self.defer = audit, edit, defer
        self.factor, self.collusion, self.random = factor, collusion, random

    def __call__(self, rng, attacks, shift):
        attack = attacks[:, 0]
        score = rng.normal(size=len(attack)) + self.factor * shift * attack
        score[attack & (rng.random(len(attack)) < self.collusion)] = -np.inf
        if self.random:
            return attack, rng.random(len(attack)) < self.audit, np.zeros(len(attack), bool)
        audited = score > norm.isf(self.audit)
        next_ = (score > norm.isf(self.audit + self.edit + self.defer)) & ~audited
        if self.defer:
            return attack & ~next_, audited, np.zeros(len(attack), bool)
        return attack, audited, next_


class Resampled:
    """Audit on a statistic of several draws; the threshold is a quantile of honest play."""

    def __init__(self, draws, statistic, audit=0.05):
        self.draws, self.statistic = draws, getattr(np, statistic)
        scores = np.random.default_rng(987).normal(size=(4_000_000 // draws, draws))
        self.threshold = np.quantile(self.statistic(scores, axis=1), 1 - audit)

    def __call__(self, rng, attacks, shift):
        score = rng.normal(size=attacks.shape) + shift * attacks
        flagged = self.statistic(score, axis=1) > self.threshold
        return attacks[:, 0], flagged, np.zeros(len(attacks), bool)


class LeastSuspicious:
    """Least suspicious draw, or the trusted policy; `first`: only if the first is suspicious."""

    def __init__(self, draws, deferred, first=False):
        self.draws, self.first = draws + first, first
        self.threshold = norm.isf(deferred ** (1 / self.draws))

    def __call__(self, rng, attacks, shift):
        score = rng.normal(size=attacks.shape) + shift * attacks
        start = int(self.first)
        chosen = start + score[:, start:].argmin(1)
        if self.first:
            chosen = np.where(score[:, 0] <= self.threshold, 0, chosen)
        rows = np.arange(len(attacks))
        executed = attacks[rows, chosen] & (score[rows, chosen] <= self.threshold)
        nothing = np.zeros(len(attacks), bool)
        return executed, nothing, nothing
