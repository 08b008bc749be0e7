"""Variance of a treatment effect: independent draws over coupled ones, at equal calls.

Two arms differ in one sentence of the system message. Six personas in 24 replicates write replies
of at most 12 tokens, which stay in their context; a rating from 1 to 5 is asked after 0, 1, 2 and 3
own replies. Tokens are drawn by Gumbel numbers that the arms share. The rating is drawn in three
ways from the probabilities p that the model gives to the five labels:

    gumbel       arg max of log p + Gumbel numbers that the arms share
    inverse_cdf  inverse distribution function of a uniform number that the arms share
    read         not drawn: sum of k p_k

For each, with y the rating of a replicate in an arm (mean over personas of all variances):

    ratio = (Var y_treated + Var y_control) / Var(y_treated - y_control)

The numerator is the variance of the difference of arms that share nothing, from the same calls: the
ratio is how many times as many replicates independent arms need for an interval of equal width.
Each rating is drawn `--draws` times for a conversation, so that the variance over the rating's own
draw has no error of its own; the interval is a bootstrap over replicates within personas.

    python -m benchmarks.language_coupling --model smollm2
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mores.agents.composite.per_agent import PerAgentPolicy
from mores.agents.language.choice_draws import draw_choice
from mores.agents.language.language_model import LanguageModel
from mores.agents.language.language_policy import LanguagePolicy
from mores.agents.language.personas.persona import TextPersona
from mores.agents.language.readouts.labels import Numbers
from mores.core.environment import Environment, Phase, Role, StepResult
from mores.core.people import People
from mores.core.random_streams import RandomStreams
from mores.core.spaces import Box, Part
from mores.core.turn_text import END_OF_MESSAGE, TurnText, message_space
from mores.registry.component import from_data
from mores.registry.specs import model_from_word
from mores.sim.simulator import Simulator

RESULTS = Path(__file__).parent / "results" / "language_coupling.json"
REPLY_BYTES, NUM_POINTS = 96, 5
PERSONAS = (
    "You are a retired nurse who lives in a village.",
    "You are a young engineer in a large city.",
    "You are a farmer with three children.",
    "You are a student of history.",
    "You are the owner of a small shop.",
    "You are a bus driver close to retirement.",
)
RULES = "You talk with an interviewer about a new public library in your town. Answer briefly."
SENTENCES = {
    "control": "The library is paid for by the town.",
    "treated": "The library is paid for by higher taxes.",
}
QUESTIONS = (
    "What would you do in the library?",
    "What do your neighbors say about it?",
    "What worries you about it?",
)
SCALE = ("not useful at all", "hardly useful", "somewhat useful", "useful", "very useful")


@dataclasses.dataclass(frozen=True)
class InterviewState:
    """Probabilities of the ratings, and the number of replies.

    Attributes:
        probabilities: `[world, person, point]`.
        replies: `[world, 1]`.
    """

    probabilities: Tensor
    replies: Tensor


class Interview(Environment[InterviewState]):
    """A rating, then an own reply, and again: nobody hears anybody else."""

    sentence: str = ""

    @property
    def roles(self) -> tuple[Role, ...]:
        """People who are interviewed, one for each persona."""
        return (Role("person", len(PERSONAS), Box.of(replies=1)),)

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The rating is measured; the reply is written."""
        rating = Box.of(probabilities=Part(NUM_POINTS, 0.0, 1.0))
        return (
            Phase("rate", {"person": rating}),
            Phase("reply", {"person": message_space(REPLY_BYTES)}),
        )

    def reset(self, streams: RandomStreams, people: People | None = None) -> InterviewState:
        """No reply."""
        size = streams.num_worlds, len(PERSONAS)
        return InterviewState(torch.zeros(*size, NUM_POINTS), torch.zeros(size[0], 1))

    def observe(self, state: InterviewState, role: str, phase: str) -> Tensor:
        """The number of own replies."""
        return state.replies[:, None].expand(-1, len(PERSONAS), -1)

    def action_mask(self, state: InterviewState, role: str, phase: str) -> Tensor | None:
        """After the last question there is nothing to say."""
        if phase != "reply" or bool(state.replies.lt(len(QUESTIONS)).all()):
            return None
        empty = torch.arange(END_OF_MESSAGE + 1).eq(END_OF_MESSAGE).repeat(REPLY_BYTES)
        return empty.expand(*state.probabilities.shape[:2], -1)

    def step(
        self,
        state: InterviewState,
        phase: str,
        actions: Mapping[str, Tensor],
        streams: RandomStreams,
    ) -> StepResult[InterviewState]:
        """Keep the ratings; count the replies."""
        if phase == "rate":
            return StepResult(dataclasses.replace(state, probabilities=actions["person"]))
        return StepResult(dataclasses.replace(state, replies=state.replies + 1))

    def metrics(self, state: InterviewState) -> Mapping[str, Tensor]:
        """Expected rating of each person."""
        points = torch.arange(1.0, NUM_POINTS + 1)
        return {"rating": (state.probabilities * points).sum(-1)}

    def role_rules(self, role: str) -> str:
        """The rules, with the sentence of the arm."""
        return f"{RULES} {self.sentence}"

    def describe(
        self, role: str, phase: str, observation: Tensor, action_mask: Tensor | None = None
    ) -> TurnText:
        """The question of the turn."""
        if phase == "reply":
            return TurnText("", QUESTIONS[int(observation[0]) % len(QUESTIONS)], "message")
        question = "How useful is the library to you?"
        return TurnText("", question, "probabilities", SCALE, ordered=True)


class Arm:
    """What an arm gave.

    Attributes:
        probabilities: of the points, `[rating, replicate, persona, point]`.
        replies: tokens of the replies, `[reply, persona, replicate, token]`.
        near_ties: number of tokens that rounding may have changed.
    """

    def __init__(self, sentence: str, model: LanguageModel, replicates: int, seed: int) -> None:
        policy = PerAgentPolicy(
            policies=tuple(
                LanguagePolicy(
                    model=model,
                    persona=TextPersona(content=persona),
                    readout=Numbers(),
                    max_new_tokens=12,
                    memory_turns=len(QUESTIONS),
                    memory_bytes=256,
                )
                for persona in PERSONAS
            )
        )
        simulator = Simulator(Interview(sentence=sentence), {"person": policy}, worlds=replicates)
        simulator.reset(seed)
        probabilities = []
        for _ in range(len(QUESTIONS) + 1):
            simulator.step()
            probabilities.append(simulator.state.probabilities)
        state = simulator.policy_states["person"]
        self.near_ties = float(policy.metrics(state)["near_ties"].sum())
        self.probabilities = torch.stack(probabilities).double()
        replied = torch.cat([member.memory.replied for member in state.member_states], 1)
        self.replies = replied.transpose(0, 2)  # turn persona replicate code


def draw(probabilities: Tensor, is_ordered: bool, draws: int, seed: int) -> Tensor:
    """Ratings from 1, `[rating, replicate, persona, draw]`, with numbers that arms share."""
    rounds, replicates, personas, _ = probabilities.shape
    found = torch.zeros(rounds, replicates, personas, draws, dtype=torch.float64)
    ordered = torch.full((replicates, personas), is_ordered)
    near_tie = torch.zeros(replicates, personas, dtype=torch.float64)
    for rating in range(rounds):
        streams = RandomStreams.of(seed, replicates, round=rating)
        for index in range(draws):
            own = streams.child(f"rating {index}")
            drawn = draw_choice(probabilities[rating].log(), ordered, 1.0, near_tie, own)
            found[rating, :, :, index] = 1 + drawn.action
    return found


def variance_ratios(control: Tensor, treated: Tensor, resamples: int, seed: int) -> np.ndarray:
    """Ratios `[rating, 1 + resample]` from ratings `[rating, replicate, persona, draw]`."""
    generator = np.random.default_rng(seed)
    series = [control.numpy(), treated.numpy(), (treated - control).numpy()]
    replicates, personas = series[0].shape[1:3]
    rows = generator.integers(0, replicates, (resamples, replicates, personas))
    rows = np.concatenate([np.arange(replicates)[None, :, None].repeat(personas, 2), rows])
    variances = []
    for values in series:
        first, second = values.mean(-1), (values**2).mean(-1)  # [rating, replicate, persona]
        who = np.arange(personas)
        one = np.stack([first[:, own, who].mean(1) for own in rows], 1)
        two = np.stack([second[:, own, who].mean(1) for own in rows], 1)
        variances.append((two - one**2).mean(-1) * replicates / (replicates - 1))
    independent, coupled = variances[0] + variances[1], variances[2]
    tiny = 1e-12  # of a rating from 1 to 5: nothing varies before the first reply
    return np.where(independent < tiny, np.nan, independent / np.maximum(coupled, tiny))


def main() -> None:
    """Run both arms and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--replicates", type=int, default=24)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--resamples", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=20261130)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    model = from_data("language_model", model_from_word(given.model), strict=False)
    torch.set_num_threads(1)
    start, start_cpu = time.perf_counter(), time.process_time()
    arms = {
        name: Arm(sentence, model, given.replicates, given.seed)
        for name, sentence in SENTENCES.items()
    }
    control, treated = (arms[name].probabilities for name in ("control", "treated"))
    points = torch.arange(1.0, NUM_POINTS + 1, dtype=torch.float64)
    ratings = {
        name: tuple(
            draw(p, name == "inverse_cdf", given.draws, given.seed) for p in (control, treated)
        )
        for name in ("gumbel", "inverse_cdf")
    }
    ratings["read"] = tuple((p * points).sum(-1, keepdim=True) for p in (control, treated))
    results: dict[str, Any] = {
        "model": given.model,
        "identity": dict(model.identity()),
        "personas": len(PERSONAS),
        "replicates": given.replicates,
        "draws": given.draws,
        "seed": given.seed,
    }
    for name, (a, b) in ratings.items():
        ratios = variance_ratios(a, b, given.resamples, given.seed)
        low, high = np.percentile(ratios[:, 1:], [2.5, 97.5], axis=1)
        results[name] = [
            {"replies": i, "ratio": _number(r), "low": _number(lo), "high": _number(hi)}
            for i, (r, lo, hi) in enumerate(zip(ratios[:, 0], low, high, strict=True))
        ]
    same = (arms["control"].replies == arms["treated"].replies).all(-1).flatten(1)
    results["equal_replies"] = same.double().mean(1).tolist()
    results["mean_effect"] = ((treated - control) @ points).mean((1, 2)).tolist()
    results["near_ties"] = sum(arm.near_ties for arm in arms.values())
    results["total_variation"] = ((treated - control).abs().sum(-1) / 2).mean((1, 2)).tolist()
    results["cpu_seconds"] = round(time.process_time() - start_cpu)
    results["wall_seconds"] = round(time.perf_counter() - start)
    given.out.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(results, indent=1))


def _number(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 2)


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
