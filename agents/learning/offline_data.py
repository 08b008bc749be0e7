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
from mores.agents.learning.demonstration_rollout import demonstration_batch
from mores.agents.learning.learner_state import LearnerState
from mores.agents.learning.model_mapping import ModelMapping
from mores.core.errors import UserError
from mores.sim.episode_dataset import EpisodeDataset

SAMPLE_FEEDBACK = ("reward", "critique")  # that are said of samples by the names of a batch


@dataclasses.dataclass(frozen=True)
class OfflineData:
    """What there is to learn from.

    Attributes:
        phase: the role's first phase: what is done there is learned.
        generated: what the seats did.
        make_demonstrations: makes what they were shown instead, where anything was: not every recipe looks.
    """

    phase: str
    generated: FeedbackBatch
    make_demonstrations: Callable[[], FeedbackBatch] | None

    def demonstrations(self, recipe: str) -> FeedbackBatch:
        """What they were shown.

        Raises:
            UserError: nothing was.
        """
        if self.make_demonstrations is None:
            raise UserError(
                f"{recipe} imitates demonstrations, and in the stages before there were none "
                "(feedback `demonstration`)",
                code="missing",
                path="demonstration",
            )
        return self.make_demonstrations()

    def preference_pairs(self, recipe: str) -> FeedbackBatch:
        """Own samples in pairs, of which one was preferred.

        Raises:
            UserError: nobody preferred anything.
        """
        if self.generated.pairs is None and self.generated.desirable is not None:
            raise UserError(
                f"{recipe} learns from preferences between answers of one policy, and here seats "
                "2i and 2i + 1, of which one is preferred, do not share one: share: role",
                code="conflict",
                path="share",
            )
        if self.generated.pairs is None:
            raise UserError(
                f"{recipe} learns from preferences, and in the stages before there were none "
                "(feedback `preferred`)",
                code="missing",
                path="preferred",
            )
        return self.generated

    def desirability_samples(self, recipe: str) -> FeedbackBatch:
        """Own samples of which it is known whether they were wanted.

        Raises:
            UserError: nobody said.
        """
        if self.generated.desirable is None:
            raise UserError(
                f"{recipe} learns from what was wanted and what was not, and in the stages before "
                "nobody said (feedback `preferred`)",
                code="missing",
                path="preferred",
            )
        return self.generated

    def critiqued_samples(self, recipe: str) -> FeedbackBatch:
        """Own samples with what was said of them.

        Raises:
            UserError: nothing was.
        """
        if self.generated.critique is None:
            raise UserError(
                f"{recipe} learns from judgements, and in the stages before there were none "
                "(feedback `judgement`)",
                code="missing",
                path="critique",
            )
        return self.generated


def read_offline_data(dataset: EpisodeDataset, state: LearnerState) -> OfflineData:
    """The record of a role as its learner's policies share it.

    Raises:
        UserError: the role did nothing, or what was said does not fit the episodes.
    """
    stack, seats = state.spec.stacked_model, state.persistent_state.mapping
    phase = next((name for name in stack.action_distributions if name in dataset.observation), None)
    if phase is None or dataset.done is None or dataset.finished is None:
        raise UserError(
            f"{state.spec.role.name} has not acted yet: there is nothing to learn from",
            code="wrong_order",
            path=f"players.{state.spec.role.name}",
        )
    sights = dataset.observation[phase]
    if sights.shape[2] != seats.shape[1]:
        raise UserError(
            f"{state.spec.role.name} had {sights.shape[2]} seats in the stages before, and its "
            f"learner has {seats.shape[1]}: stages of a learner have as many",
            code="incompatible",
            path=f"players.{state.spec.role.name}",
        )
    episodes = _episode_bounds(dataset.done, dataset.finished)
    seen = _by_episode(sights, episodes)  # world agent episode step size
    acted = _by_episode(dataset.action[phase], episodes)
    real = _valid_steps(dataset.finished, episodes)  # world episode step
    count = real.shape[1]
    mask = seats.by_model(real[:, None].expand(-1, seats.shape[1], -1, -1))
    mask = (mask & seats.valid[:, :, None, None]).flatten(1, 2)
    legal = dataset.action_mask.get(phase)
    own = FeedbackBatch(
        seats.by_model(seen).flatten(1, 2),
        stack.action_distributions[phase].scale_action(seats.by_model(acted).flatten(1, 2)),
        mask,
        action_mask=None
        if legal is None
        else seats.by_model(_by_episode(legal, episodes)).flatten(1, 2) | ~mask[..., None],
        group=_group_ids(seats, count),
    )
    told = {}
    for name, said in dataset.feedback.items():
        if said.shape[1] != count:
            raise UserError(
                f"feedback {name!r} was given {said.shape[1]} times in {count} episodes: "
                "once an episode is what can be learned from",
                code="wrong_shape",
                path=name,
            )
        told[name] = seats.by_model(said.movedim(1, 2)).flatten(1, 2)  # policy sample ...
    fields = {name: told[name] for name in SAMPLE_FEEDBACK if name in told}
    if "reward" not in fields and dataset.reward is not None:
        paid = _episode_rewards(dataset, episodes)  # world agent episode
        fields["reward"] = seats.by_model(paid).flatten(1, 2)[..., None]
    own = _with_pairs(own.replace(**fields), told, seats, count)
    shown = None
    if "demonstration" in told:
        shown = functools.partial(
            demonstration_batch,
            told["demonstration"],
            told.get("demonstration_reward"),
            own,
            state.spec.role,
        )
    return OfflineData(phase, own, shown)


def _with_pairs(
    generated: FeedbackBatch, feedback: dict[str, Tensor], mapping: ModelMapping, episodes: int
) -> FeedbackBatch:
    """Own samples, with pairs where somebody preferred one to another."""
    if "preferred" not in feedback:
        return generated
    pairs = _pair_indices(mapping, episodes)
    preferred = feedback["preferred"].bool()
    if pairs is None:
        return generated.replace(desirable=preferred)
    first = pairs[..., 0]
    real = generated.mask.any(-1).gather(1, first) & generated.mask.any(-1).gather(1, pairs[..., 1])
    if bool((real & (preferred.gather(1, first) == preferred.gather(1, pairs[..., 1]))).any()):
        raise UserError(
            "both of a pair, or neither, were preferred: seats 2i and 2i + 1 of the learner were "
            "not compared with each other (in a cast, begin its seats at an even one)",
            code="invalid_value",
            path="preferred",
        )
    fields: dict[str, Tensor] = {"preferred": preferred.gather(1, first)}
    if "annotator" in feedback:
        fields["annotator"] = feedback["annotator"].long().gather(1, first)
    return generated.replace(pairs=pairs, desirable=preferred, **fields)


def _episode_bounds(
    episode_done: Bool[Tensor, "world round"], finished: Bool[Tensor, "world round"]
) -> list[tuple[int, int]]:
    """First round of each episode, and the one after its last: when all worlds have ended."""
    done = (episode_done | finished).all(0).tolist()
    lasts = [at + 1 for at, is_last in enumerate(done) if is_last]
    if not lasts:
        raise UserError("no episode was completed: there is nothing to learn from", code="missing")
    began = (episode_done[:, :-1] & ~finished[:, 1:]).any(0).nonzero()[:, 0] + 1
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


def _valid_steps(
    finished: Bool[Tensor, "world round"], episodes: list[tuple[int, int]]
) -> Bool[Tensor, "world episode step"]:
    """Which steps of padded episodes were played."""
    played = _by_episode((~finished)[..., None].to(torch.int8), episodes)
    return played[:, 0] > 0


def _episode_rewards(
    dataset: EpisodeDataset, episodes: list[tuple[int, int]]
) -> Float[Tensor, "world agent episode"]:
    """What every seat earned in each episode.

    Raises:
        UserError: it was not paid once a round, so that payments belong to no episode.
    """
    assert dataset.reward is not None
    assert dataset.done is not None
    if dataset.reward.shape[1] != dataset.done.shape[1]:
        times, rounds = dataset.reward.shape[1], dataset.done.shape[1]
        raise UserError(
            f"paid {times} times in {rounds} rounds: once a round can be learned from",
            code="wrong_shape",
            path="reward",
        )
    return _by_episode(dataset.reward, episodes).sum(-1)


def _group_ids(mapping: ModelMapping, episodes: int) -> Int[Tensor, "policy sample"]:
    """Samples of the same world and episode answer the same request."""
    world = torch.div(mapping.agent_rows, mapping.shape[1], rounding_mode="floor")
    each = torch.arange(episodes, device=world.device)
    return (world[..., None] * episodes + each).flatten(1, 2)


def _pair_indices(mapping: ModelMapping, episodes: int) -> Int[Tensor, "policy pair 2"] | None:
    """Samples of seats 2i and 2i + 1 of a world; `None` where these do not share a policy."""
    worlds, agents = mapping.shape
    if agents % 2:
        return None
    rows = mapping.agent_rows.shape[1]
    place = mapping.inverse_rows.view(worlds, agents // 2, 2)
    policy = torch.div(place, rows, rounding_mode="floor")
    if not bool((policy[..., 0] == policy[..., 1]).all()):
        return None
    order = policy[..., 0].flatten().argsort(stable=True)
    place = (place % rows).view(-1, 2)[order]
    counts = policy[..., 0].flatten().bincount(minlength=mapping.num_models)
    if int(counts.min()) != int(counts.max()):
        return None  # policies with unlike numbers of seats have no common layout of pairs
    place = place.view(mapping.num_models, -1, 1, 2)
    each = torch.arange(episodes, device=place.device)[:, None]
    return (place * episodes + each).flatten(1, 2)
