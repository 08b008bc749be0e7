"""A tiny model from random weights reaches the best return: by our loop, and by TRL's GRPO.

The game: each round pays 1 if both players act differently, else 0, and the other player repeats
our last action. The best reply is to change the action in every round, which only the text of the
last round says; it earns 1 in every round. A random player earns 1/2.

Ours are LoRA adapters of a frozen random model (an adapter for each training), with REINFORCE; the
model sees one turn at a time. TRL trains all weights of its own model with GRPO, on dialogues whose
tokens are those of the rollout, at temperature 2: at 1 some random models stop to explore. Each
training is a sample: its share of the best return in the last four updates, actions drawn.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

import mores
from mores.agents.composite.per_agent import PerAgentPolicy
from mores.agents.language.adapters import LoRA
from mores.agents.language.language_learner import LanguageLearner
from mores.agents.language.lm_policy import DialoguePolicy
from mores.agents.scripted.repeated_game import Strategy
from mores.clients.trl import TRLRollouts
from tests.language.texts import logged, settings
from tests.language.word_model import ALL_MODULES, ANTICOORDINATION, WordModel, word_llama

pytest.importorskip("trl")

TIT_FOR_TAT = Strategy(name="tit_for_tat")
ROUNDS = 2
BEST = float(ROUNDS)
NUM_WORLDS = 32


def report(name: str, shares: list[float]) -> tuple[float, float]:
    """Print the mean with its 95 % interval, and return the interval."""
    mean, count = float(np.mean(shares)), len(shares)
    half = float(stats.t.ppf(0.975, count - 1)) * float(np.std(shares, ddof=1)) / count**0.5
    reached = sum(share >= 0.9 for share in shares)
    low = 0.0 if not reached else float(stats.beta.ppf(0.025, reached, count - reached + 1))
    numbers = {
        "loop": name,
        "n": count,
        "mean share of the best return": round(mean, 4),
        "95 % interval (t)": [round(mean - half, 4), round(mean + half, 4)],
        "trainings of at least 90 %": f"{reached} of {count}",
        "at least, of all trainings (Clopper-Pearson)": round(low, 3),
    }
    print(json.dumps(numbers))
    return mean - half, mean + half


# --- our loop -------------------------------------------------------------------------------------


def our_shares(weights_seed: int, seed: int, replicates: int, episodes: int) -> list[float]:
    """Share of the best return of each training in its last four updates."""
    learner = LanguageLearner(
        model=WordModel(weights_seed=weights_seed),
        adapters=LoRA(rank=4, target_modules=ALL_MODULES),
        objective={"kind": "reinforce", "learning_rate": 0.005, "gamma": 0.0},  # type: ignore[arg-type]
    )
    result = mores.train(
        ANTICOORDINATION,
        {"player": PerAgentPolicy(policies=(learner, TIT_FOR_TAT))},
        episodes=episodes,
        rounds=ROUNDS,
        replicates=replicates,
        worlds=NUM_WORLDS,
        seed=seed,
        metrics=["return_by_agent"],
    )
    returns = result.curves["return_by_agent"].values[..., 0]  # world episode
    return (
        returns.reshape(replicates, NUM_WORLDS, episodes)[..., -4:].mean((1, 2)) / BEST
    ).tolist()


@pytest.mark.full
def test_our_loop() -> None:
    """Trainings of 40 updates, eight for each of three random base models."""
    shares = [share for weights in (1, 2, 3) for share in our_shares(weights, 10 + weights, 8, 40)]
    low, _ = report("mores", shares)
    assert low >= 0.9


# --- TRL ------------------------------------------------------------------------------------------


class SeenTokens:
    """Rows of tokens that a model was given in forward passes without gradients."""

    def __init__(self, model: Any) -> None:
        self.rows: set[tuple[int, ...]] = set()
        self._handle = model.register_forward_pre_hook(self._record, with_kwargs=True)

    def _record(self, module: Any, args: Any, kwargs: Any) -> None:
        if torch.is_grad_enabled():
            return
        for ids, mask in zip(kwargs["input_ids"], kwargs["attention_mask"], strict=True):
            self.rows.add(tuple(ids[mask.bool()].tolist()))

    def remove(self) -> None:
        """Stop recording."""
        self._handle.remove()


def check_prefixes(fields: dict[str, list[Any]], seen: SeenTokens) -> int:
    """Check every turn: the model read the ids so far, and the new ids follow them.

    Returns:
        The number of turns.
    """
    turns = 0
    for prompt, ids, mask in zip(
        fields["prompt_ids"], fields["completion_ids"], fields["env_mask"], strict=True
    ):
        ends = [
            i + 1 for i in range(len(ids)) if mask[i] and (i + 1 == len(ids) or not mask[i + 1])
        ]
        for end in ends:
            assert (*prompt, *ids[:end]) in seen.rows
        turns += len(ends)
    return turns


def trl_share(seed: int, steps: int, folder: Path, batch_size: int = 64) -> float:
    """Share of the best return in the last four updates of a training by TRL."""
    trl: Any = pytest.importorskip("trl")
    model, tokenizer = word_llama(100 + seed, 32, 2)
    rollouts = TRLRollouts(
        ANTICOORDINATION,
        DialoguePolicy(),
        "player_0",
        ROUNDS,
        {"player": TIT_FOR_TAT},
        seed=seed,
    )
    calls: list[tuple[dict[str, Any], SeenTokens]] = []

    @functools.wraps(rollouts)
    def recorded(prompts: list[Any], trainer: Any) -> dict[str, list[Any]]:
        seen = SeenTokens(model)
        fields = rollouts(prompts, trainer)
        seen.remove()
        if len(calls) < 2:
            calls.append((fields, seen))
        return fields

    args = settings(
        folder,
        trl.GRPOConfig,
        per_device_train_batch_size=batch_size,
        num_generations=batch_size // 2,
        max_completion_length=4096,
        beta=0.0,
        max_steps=steps,
        learning_rate=1e-3,
        temperature=2.0,
        seed=seed,
    )
    trainer = trl.GRPOTrainer(
        model,
        rollouts.reward_function("reward"),
        args,
        train_dataset=rollouts.dataset(64),
        processing_class=tokenizer,
        rollout_func=recorded,
    )
    trainer.train()
    for fields, seen in calls:
        assert check_prefixes(fields, seen) == ROUNDS * batch_size
    return sum(logged(trainer, "reward")[-4:]) / 4 / BEST


@pytest.mark.full
def test_trl_loop(tmp_path) -> None:
    """Trainings of 40 updates from eight random models."""
    shares = [trl_share(seed, 40, tmp_path / str(seed)) for seed in range(8)]
    low, _ = report("TRL GRPO", shares)
    assert low >= 0.9


def test_few_updates_of_trl(tmp_path) -> None:
    """The tokens of every turn, and a training that gets better."""
    assert trl_share(0, 8, tmp_path, batch_size=16) > 0.25
