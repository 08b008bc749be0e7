"""Batches for offline training, made from recorded episodes (`mores.core.episode_dataset`).

A sample is the episode of one agent, with one value of each feedback per episode. Agents 2i and
2i + 1 of a world form a pair in each episode.
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
from mores.core.episode_dataset import EpisodeDataset
from mores.core.errors import UserError

SAMPLE_FEEDBACK = ("reward", "critique")  # feedback that becomes the field of the same name


@dataclasses.dataclass(frozen=True)
class OfflineData:
    """Recorded episodes of a role as batches.

    Attributes:
        phase: first phase of the role; only its actions are trained.
        generated: samples that the agents generated.
        make_demonstrations: makes the batch of demonstrations, if there are any; called on demand.
    """

    phase: str
    generated: FeedbackBatch
    make_demonstrations: Callable[[], FeedbackBatch] | None

    def demonstrations(self, recipe: str) -> FeedbackBatch:
        """Demonstrations for the prompts of the generated samples.

        Raises:
            UserError: there are none.
        """
        if self.make_demonstrations is None:
            raise UserError(
                f"{recipe} needs demonstrations; the earlier stages gave none "
                "(feedback `demonstration`)",
                code="missing",
                path="demonstration",
            )
        return self.make_demonstrations()

    def preference_pairs(self, recipe: str) -> FeedbackBatch:
        """Generated samples in pairs, of which one was preferred.

        Raises:
            UserError: there are no preferences, or none between samples of one model.
        """
        if self.generated.pairs is None and self.generated.desirable is not None:
            raise UserError(
                f"{recipe} needs preferences between samples of one model; here agents 2i and "
                "2i + 1, which were compared, have different ones (use parameter_sharing: role)",
                code="conflict",
                path="parameter_sharing",
            )
        if self.generated.pairs is None:
            raise UserError(
                f"{recipe} needs preferences; the earlier stages gave none (feedback `preferred`)",
                code="missing",
                path="preferred",
            )
        return self.generated

    def desirability_samples(self, recipe: str) -> FeedbackBatch:
        """Generated samples with labels `desirable`.

        Raises:
            UserError: there are no such labels.
        """
        if self.generated.desirable is None:
            raise UserError(
                f"{recipe} needs labels of desirable samples; the earlier stages gave none "
                "(feedback `preferred`)",
                code="missing",
                path="preferred",
            )
        return self.generated

    def critiqued_samples(self, recipe: str) -> FeedbackBatch:
        """Generated samples with critiques.

        Raises:
            UserError: there are none.
        """
        if self.generated.critique is None:
            raise UserError(
                f"{recipe} needs critiques; the earlier stages gave none (feedback `critique`)",
                code="missing",
                path="critique",
            )
        return self.generated


def read_offline_data(dataset: EpisodeDataset, state: LearnerState) -> OfflineData:
    """Recorded episodes of a role, arranged by the models of a learner state.

    Raises:
        UserError: the role has no episodes, or the feedback does not fit them.
    """
    stacked_model, mapping = state.spec.stacked_model, state.persistent_state.mapping
    role, phases = state.spec.role, stacked_model.action_distributions
    phase = next((name for name in phases if name in dataset.observation), None)
    if phase is None or dataset.done is None or dataset.finished is None:
        raise UserError(
            f"{role.name} has not acted in an earlier stage: there is no data to train on",
            code="wrong_order",
            path=f"policies.{role.name}",
        )
    recorded = dataset.observation[phase]
    if recorded.shape[2] != mapping.shape[1]:
        raise UserError(
            f"{role.name} had {recorded.shape[2]} agents in the earlier stages, its learner has "
            f"{mapping.shape[1]}; all stages of a learner need the same number",
            code="incompatible",
            path=f"policies.{role.name}",
        )
    episodes = _episode_bounds(dataset.done, dataset.finished)
    observation = _by_episode(recorded, episodes)  # world agent episode step size
    action = _by_episode(dataset.action[phase], episodes)
    valid = _valid_steps(dataset.finished, episodes)  # world episode step
    num_episodes = valid.shape[1]
    mask = mapping.by_model(valid[:, None].expand(-1, mapping.shape[1], -1, -1))
    mask = (mask & mapping.valid[:, :, None, None]).flatten(1, 2)
    legal = dataset.action_mask.get(phase)
    generated = FeedbackBatch(
        mapping.by_model(observation).flatten(1, 2),
        phases[phase].scale_action(mapping.by_model(action).flatten(1, 2)),
        mask,
        action_mask=None
        if legal is None
        else mapping.by_model(_by_episode(legal, episodes)).flatten(1, 2) | ~mask[..., None],
        group=_group_ids(mapping, num_episodes),
    )
    feedback = {}
    for name, value in dataset.feedback.items():
        if value.shape[1] != num_episodes:
            raise UserError(
                f"feedback {name!r} was given {value.shape[1]} times in {num_episodes} episodes; "
                "offline training needs it once an episode",
                code="wrong_shape",
                path=name,
            )
        feedback[name] = mapping.by_model(value.movedim(1, 2)).flatten(1, 2)  # model sample ...
    fields = {name: feedback[name] for name in SAMPLE_FEEDBACK if name in feedback}
    if "reward" not in fields and dataset.reward is not None:
        reward = _episode_rewards(dataset, episodes)  # world agent episode
        fields["reward"] = mapping.by_model(reward).flatten(1, 2)[..., None]
    generated = _with_pairs(generated.replace(**fields), feedback, mapping, num_episodes)
    make_demonstrations = None
    if "demonstration" in feedback:
        make_demonstrations = functools.partial(
            demonstration_batch,
            feedback["demonstration"],
            feedback.get("demonstration_reward"),
            generated,
            role,
        )
    return OfflineData(phase, generated, make_demonstrations)


def _with_pairs(
    generated: FeedbackBatch, feedback: dict[str, Tensor], mapping: ModelMapping, episodes: int
) -> FeedbackBatch:
    """Generated samples, with pairs if there are preferences between them."""
    if "preferred" not in feedback:
        return generated
    pairs = _pair_indices(mapping, episodes)
    preferred = feedback["preferred"].bool()
    if pairs is None:
        return generated.replace(desirable=preferred)
    first, second, valid = pairs[..., 0], pairs[..., 1], generated.mask.any(-1)
    both = valid.gather(1, first) & valid.gather(1, second)
    if bool((both & (preferred.gather(1, first) == preferred.gather(1, second))).any()):
        raise UserError(
            "both or neither of a pair were preferred: agents 2i and 2i + 1 of the learner were "
            "not compared with each other (in per_agent, begin its agents at an even index)",
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
    """First round of each episode, and the round after its last, when all worlds are done."""
    done = (episode_done | finished).all(0).tolist()
    stops = [index + 1 for index, is_last in enumerate(done) if is_last]
    if not stops:
        raise UserError("no episode was completed: there is no data to train on", code="missing")
    starts = (episode_done[:, :-1] & ~finished[:, 1:]).any(0).nonzero()[:, 0] + 1
    if not set(starts.tolist()) <= {*stops, *range(stops[-1], len(done))}:
        raise UserError(
            "some worlds began a new episode before the others were done (autoreset); offline "
            "training needs episodes that all worlds begin together",
            code="unsupported",
            path="autoreset_mode",
        )
    return list(zip([0, *stops[:-1]], stops, strict=True))


def _by_episode(x: Tensor, episodes: list[tuple[int, int]]) -> Tensor:
    """`[world, round, agent, ...]` as `[world, agent, episode, step, ...]`, padded."""
    longest = max(stop - start for start, stop in episodes)
    padded = []
    for start, stop in episodes:
        episode = x[:, start:stop]
        if stop - start < longest:
            missing = longest - (stop - start)
            episode = torch.cat([episode, episode.new_zeros(len(x), missing, *x.shape[2:])], 1)
        padded.append(episode)
    return torch.stack(padded, 1).movedim(3, 1)


def _valid_steps(
    finished: Bool[Tensor, "world round"], episodes: list[tuple[int, int]]
) -> Bool[Tensor, "world episode step"]:
    """Steps of padded episodes that were simulated."""
    simulated = _by_episode((~finished)[..., None].to(torch.int8), episodes)
    return simulated[:, 0] > 0


def _episode_rewards(
    dataset: EpisodeDataset, episodes: list[tuple[int, int]]
) -> Float[Tensor, "world agent episode"]:
    """Sum of the rewards of every agent in each episode.

    Raises:
        UserError: rewards were not given once a round, so they belong to no episode.
    """
    assert dataset.reward is not None
    assert dataset.done is not None
    if dataset.reward.shape[1] != dataset.done.shape[1]:
        count, rounds = dataset.reward.shape[1], dataset.done.shape[1]
        raise UserError(
            f"{count} rewards in {rounds} rounds; offline training needs one reward a round",
            code="wrong_shape",
            path="reward",
        )
    return _by_episode(dataset.reward, episodes).sum(-1)


def _group_ids(mapping: ModelMapping, episodes: int) -> Int[Tensor, "model sample"]:
    """Group of each sample: one number for each world and episode, whose prompt is the same."""
    world = torch.div(mapping.agent_rows, mapping.shape[1], rounding_mode="floor")
    each = torch.arange(episodes, device=world.device)
    return (world[..., None] * episodes + each).flatten(1, 2)


def _pair_indices(mapping: ModelMapping, episodes: int) -> Int[Tensor, "model pair 2"] | None:
    """Samples of agents 2i and 2i + 1 of a world; `None` where these do not share a model."""
    worlds, agents = mapping.shape
    if agents % 2:
        return None
    num_rows = mapping.agent_rows.shape[1]
    row = mapping.inverse_rows.view(worlds, agents // 2, 2)
    model = torch.div(row, num_rows, rounding_mode="floor")
    if not bool((model[..., 0] == model[..., 1]).all()):
        return None
    order = model[..., 0].flatten().argsort(stable=True)
    row = (row % num_rows).view(-1, 2)[order]
    counts = model[..., 0].flatten().bincount(minlength=mapping.num_models)
    if int(counts.min()) != int(counts.max()):
        return None  # models with different numbers of agents have no common layout of pairs
    row = row.view(mapping.num_models, -1, 1, 2)
    episode = torch.arange(episodes, device=row.device)[:, None]
    return (row * episodes + episode).flatten(1, 2)
