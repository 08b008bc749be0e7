"""What a role went through in earlier stages, as batches to be learned from (`mores.sim.episode_dataset`).

A sample is one seat's episode. What was said of it (feedback) was said once an episode; which
samples are pairs follows from the seats: 2i and 2i + 1 of a world, in the same episode.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mores.agents.learning.batch import FeedbackBatch
from mores.agents.learning.demonstration_rollout import demonstrations
from mores.agents.learning.learner_state import Memory
from mores.agents.learning.model_mapping import Seats
from mores.core.errors import UserError
from mores.sim.episode_dataset import Experience

FIELDS = ("reward", "judgement")  # that are said of samples by the names of a batch


@dataclasses.dataclass(frozen=True)
class Record:
    """What there is to learn from.

    Attributes:
        phase: the role's first phase: what is done there is learned.
        own: what the seats did.
        shown: makes what they were shown instead, where anything was: not every recipe looks.
    """

    phase: str
    own: FeedbackBatch
    shown: Callable[[], FeedbackBatch] | None

    def demonstrations(self, recipe: str) -> FeedbackBatch:
        """What they were shown.

        Raises:
            UserError: nothing was.
        """
        if self.shown is None:
            raise UserError(
                f"{recipe} imitates demonstrations, and in the stages before there were none "
                "(feedback `demonstration`)",
                code="missing",
                path="demonstration",
            )
        return self.shown()

    def pairs(self, recipe: str) -> FeedbackBatch:
        """Own samples in pairs, of which one was preferred.

        Raises:
            UserError: nobody preferred anything.
        """
        if self.own.pairs is None and self.own.desirable is not None:
            raise UserError(
                f"{recipe} learns from preferences between answers of one policy, and here seats "
                "2i and 2i + 1, of which one is preferred, do not share one: share: role",
                code="conflict",
                path="share",
            )
        if self.own.pairs is None:
            raise UserError(
                f"{recipe} learns from preferences, and in the stages before there were none "
                "(feedback `preferred`)",
                code="missing",
                path="preferred",
            )
        return self.own

    def wanted(self, recipe: str) -> FeedbackBatch:
        """Own samples of which it is known whether they were wanted.

        Raises:
            UserError: nobody said.
        """
        if self.own.desirable is None:
            raise UserError(
                f"{recipe} learns from what was wanted and what was not, and in the stages before "
                "nobody said (feedback `preferred`)",
                code="missing",
                path="preferred",
            )
        return self.own

    def judged(self, recipe: str) -> FeedbackBatch:
        """Own samples with what was said of them.

        Raises:
            UserError: nothing was.
        """
        if self.own.judgement is None:
            raise UserError(
                f"{recipe} learns from judgements, and in the stages before there were none "
                "(feedback `judgement`)",
                code="missing",
                path="judgement",
            )
        return self.own


def read(experience: Experience, memory: Memory) -> Record:
    """The record of a role as its learner's policies share it.

    Raises:
        UserError: the role did nothing, or what was said does not fit the episodes.
    """
    stack, seats = memory.make.stack, memory.learned.seats
    phase = next((name for name in stack.heads if name in experience.seen), None)
    if phase is None or experience.ended is None or experience.over is None:
        raise UserError(
            f"{memory.make.role.name} has not acted yet: there is nothing to learn from",
            code="wrong_order",
            path=f"players.{memory.make.role.name}",
        )
    sights = experience.seen[phase]
    if sights.shape[2] != seats.shape[1]:
        raise UserError(
            f"{memory.make.role.name} had {sights.shape[2]} seats in the stages before, and its "
            f"learner has {seats.shape[1]}: stages of a learner have as many",
            code="incompatible",
            path=f"players.{memory.make.role.name}",
        )
    episodes = _episodes(experience.ended, experience.over)
    seen = _by_episode(sights, episodes)  # world agent episode step size
    acted = _by_episode(experience.acted[phase], episodes)
    real = _real(experience.over, episodes)  # world episode step
    count = real.shape[1]
    mask = seats.by_policy(real[:, None].expand(-1, seats.shape[1], -1, -1))
    mask = (mask & seats.real[:, :, None, None]).flatten(1, 2)
    legal = experience.legal.get(phase)
    own = FeedbackBatch(
        seats.by_policy(seen).flatten(1, 2),
        stack.heads[phase].from_world(seats.by_policy(acted).flatten(1, 2)),
        mask,
        legal=None
        if legal is None
        else seats.by_policy(_by_episode(legal, episodes)).flatten(1, 2) | ~mask[..., None],
        group=_groups(seats, count),
    )
    told = {}
    for name, said in experience.feedback.items():
        if said.shape[1] != count:
            raise UserError(
                f"feedback {name!r} was given {said.shape[1]} times in {count} episodes: "
                "once an episode is what can be learned from",
                code="wrong_shape",
                path=name,
            )
        told[name] = seats.by_policy(said.movedim(1, 2)).flatten(1, 2)  # policy sample ...
    fields = {name: told[name] for name in FIELDS if name in told}
    if "reward" not in fields and experience.reward is not None:
        paid = _paid(experience, episodes)  # world agent episode
        fields["reward"] = seats.by_policy(paid).flatten(1, 2)[..., None]
    own = _paired(own.replace(**fields), told, seats, count)
    shown = None
    if "demonstration" in told:
        shown = functools.partial(
            demonstrations,
            told["demonstration"],
            told.get("demonstration_reward"),
            own,
            memory.make.role,
        )
    return Record(phase, own, shown)


def _paired(
    own: FeedbackBatch, told: dict[str, Tensor], seats: Seats, episodes: int
) -> FeedbackBatch:
    """Own samples, with pairs where somebody preferred one to another."""
    if "preferred" not in told:
        return own
    pairs = _pairs(seats, episodes)
    preferred = told["preferred"].bool()
    if pairs is None:
        return own.replace(desirable=preferred)
    first = pairs[..., 0]
    real = own.mask.any(-1).gather(1, first) & own.mask.any(-1).gather(1, pairs[..., 1])
    if bool((real & (preferred.gather(1, first) == preferred.gather(1, pairs[..., 1]))).any()):
        raise UserError(
            "both of a pair, or neither, were preferred: seats 2i and 2i + 1 of the learner were "
            "not compared with each other (in a cast, begin its seats at an even one)",
            code="invalid_value",
            path="preferred",
        )
    fields: dict[str, Tensor] = {"preferred": preferred.gather(1, first)}
    if "annotator" in told:
        fields["annotator"] = told["annotator"].long().gather(1, first)
    return own.replace(pairs=pairs, desirable=preferred, **fields)


def _episodes(
    ended: Bool[Tensor, "world round"], over: Bool[Tensor, "world round"]
) -> list[tuple[int, int]]:
    """First round of each episode, and the one after its last: when all worlds have ended."""
    done = (ended | over).all(0).tolist()
    lasts = [at + 1 for at, is_last in enumerate(done) if is_last]
    if not lasts:
        raise UserError("no episode was completed: there is nothing to learn from", code="missing")
    began = (ended[:, :-1] & ~over[:, 1:]).any(0).nonzero()[:, 0] + 1
    if not set(began.tolist()) <= {*lasts, *range(lasts[-1], len(done))}:
        raise UserError(
            "worlds began episodes of their own while others went on (autoreset): let all of them "
            "end before the next begins",
            code="unsupported",
            path="autoreset",
        )
    return list(zip([0, *lasts[:-1]], lasts, strict=True))


def _by_episode(x: Tensor, episodes: list[tuple[int, int]]) -> Tensor:
    """`[world, round, agent, ...]` as `[world, agent, episode, step, ...]`, padded."""
    longest = max(last - first for first, last in episodes)
    pieces = []
    for first, last in episodes:
        piece = x[:, first:last]
        if last - first < longest:
            missing = longest - (last - first)
            piece = torch.cat([piece, piece.new_zeros(len(x), missing, *x.shape[2:])], 1)
        pieces.append(piece)
    return torch.stack(pieces, 1).movedim(3, 1)


def _real(
    over: Bool[Tensor, "world round"], episodes: list[tuple[int, int]]
) -> Bool[Tensor, "world episode step"]:
    """Which steps of padded episodes were played."""
    played = _by_episode((~over)[..., None].to(torch.int8), episodes)
    return played[:, 0] > 0


def _paid(
    experience: Experience, episodes: list[tuple[int, int]]
) -> Float[Tensor, "world agent episode"]:
    """What every seat earned in each episode.

    Raises:
        UserError: it was not paid once a round, so that payments belong to no episode.
    """
    assert experience.reward is not None
    assert experience.ended is not None
    if experience.reward.shape[1] != experience.ended.shape[1]:
        times, rounds = experience.reward.shape[1], experience.ended.shape[1]
        raise UserError(
            f"paid {times} times in {rounds} rounds: once a round can be learned from",
            code="wrong_shape",
            path="reward",
        )
    return _by_episode(experience.reward, episodes).sum(-1)


def _groups(seats: Seats, episodes: int) -> Int[Tensor, "policy sample"]:
    """Samples of the same world and episode answer the same request."""
    world = torch.div(seats.rows, seats.shape[1], rounding_mode="floor")
    each = torch.arange(episodes, device=world.device)
    return (world[..., None] * episodes + each).flatten(1, 2)


def _pairs(seats: Seats, episodes: int) -> Int[Tensor, "policy pair 2"] | None:
    """Samples of seats 2i and 2i + 1 of a world; `None` where these do not share a policy."""
    worlds, agents = seats.shape
    if agents % 2:
        return None
    rows = seats.rows.shape[1]
    place = seats.back.view(worlds, agents // 2, 2)
    policy = torch.div(place, rows, rounding_mode="floor")
    if not bool((policy[..., 0] == policy[..., 1]).all()):
        return None
    order = policy[..., 0].flatten().argsort(stable=True)
    place = (place % rows).view(-1, 2)[order]
    counts = policy[..., 0].flatten().bincount(minlength=seats.policies)
    if int(counts.min()) != int(counts.max()):
        return None  # policies with unlike numbers of seats have no common layout of pairs
    place = place.view(seats.policies, -1, 1, 2)
    each = torch.arange(episodes, device=place.device)[:, None]
    return (place * episodes + each).flatten(1, 2)
