"""What a learner learns from: acts in context, and whatever anybody said of them.

A *policy* is one learner; `P` of them are trained at once and never meet. A *sample* is one stretch
of acts: a whole answer, an episode, or a single act. A *step* is one act of it. All tensors lead
with [policy, sample]; samples of different length are padded, and `mask` says what is real.

Every field but the first three may be missing; a loss term that needs one says which
(`FeedbackBatch.require`). Environments hand the fields of the second group to learners by these names
(`mores.core.environment.StepResult.feedback`).

Nothing is looked at when a batch is made: that happens at every training step, again and again.
Whoever makes one by hand asks for `checked()`; a recipe's are, before its learner's first lesson.
"""

from __future__ import annotations

import dataclasses
import functools
import typing
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, jaxtyped
from torch import Tensor

from mores.core.errors import UserError, did_you_mean


@dataclasses.dataclass(frozen=True)
class FeedbackBatch:
    """Acts of `policy` times `sample` stretches of `step` acts, and what is known of them.

    Attributes:
        observation: what was seen before each act: `[policy, sample, step, size]`, or token ids without
            the last dimension.
        action: what was done: `[policy, sample, step]`, several numbers for boxes and
            multi-discrete choices.
        mask: which steps are real; what is said of the others is ignored.
        step_weight: how much each step counts, for terms that weigh steps.
        episode_start: steps that begin an episode; `None`: each sample is within one.
        recurrent_state: what the policy remembered before each sample; `None`: nothing.
        action_mask: open options of discrete acts.

        old_logp: log-probability of each act when it was done.
        old_value: what the value head said then.
        advantage: how much better each act was than expected.
        value_target: what the value head should have said.
        reward: of each sample, by principal or value dimension.
        group: samples of the same number answer the same request, `None`: all differ.
        kl_baseline: divergence from the reference that KTO compares with, `[policy]`.

        preferred: of each pair (samples 2i and 2i+1, or `pairs`), whether the first won.
        pairs: indices of the winner and the loser of each pair, into the samples.
        pair_weight: how much each pair counts.
        pair_margin: by how much the winner should win, in units of the score.
        annotator: who judged each pair.
        reliability: estimated probability that the judge of each pair was right.
        desirable: which samples are wanted, for unpaired feedback.
        candidates: indices of samples that were ranked together, -1 where there are fewer.
        rank_score: what they were ranked by, higher is better.
        critique: what was said of each sample in words or values, an input for the policy.
        inappropriate: steps that are to be avoided.
        known: whether the policy knows the answer of each sample, for honesty.
        evidence_mask: which parts of a sight may be seen; hidden ones are 0.

        is_demonstration: which samples are demonstrations, not the policy's own.
        reference_logp: log-probability of each act under the policy that training began from.
        reference_logits: of all options.
        teacher_logits: log-probabilities of all options under a teacher.
        option_score: what each option is worth at each step, such as a teacher's advantage.
        target: what a regression head should say of each sample.
        principal: who gave the feedback on each sample.
    """

    observation: Tensor
    action: Tensor
    mask: Bool[Tensor, "policy sample step"]
    action_mask: Bool[Tensor, "policy sample step option"] | None = None
    step_weight: Float[Tensor, "policy sample step"] | None = None
    episode_start: Bool[Tensor, "policy sample step"] | None = None
    recurrent_state: Float[Tensor, "policy sample memory"] | None = None

    old_logp: Float[Tensor, "policy sample step"] | None = None
    old_value: Float[Tensor, "policy sample step"] | None = None
    advantage: Float[Tensor, "policy sample step"] | None = None
    value_target: Float[Tensor, "policy sample step"] | None = None
    reward: Float[Tensor, "policy sample principal"] | None = None
    group: Int[Tensor, "policy sample"] | None = None
    kl_baseline: Float[Tensor, " policy"] | None = None

    preferred: Bool[Tensor, "policy pair"] | None = None
    pairs: Int[Tensor, "policy pair 2"] | None = None
    pair_weight: Float[Tensor, "policy pair"] | None = None
    pair_margin: Float[Tensor, "policy pair"] | None = None
    annotator: Int[Tensor, "policy pair"] | None = None
    reliability: Float[Tensor, "policy pair"] | None = None
    desirable: Bool[Tensor, "policy sample"] | None = None
    candidates: Int[Tensor, "policy list place"] | None = None
    rank_score: Float[Tensor, "policy list place"] | None = None
    critique: Float[Tensor, "policy sample word"] | None = None
    inappropriate: Bool[Tensor, "policy sample step"] | None = None
    known: Bool[Tensor, "policy sample"] | None = None
    evidence_mask: Bool[Tensor, "policy sample size"] | None = None

    is_demonstration: Bool[Tensor, "policy sample"] | None = None
    reference_logp: Float[Tensor, "policy sample step"] | None = None
    reference_logits: Float[Tensor, "policy sample step option"] | None = None
    teacher_logits: Float[Tensor, "policy sample step option"] | None = None
    option_score: Float[Tensor, "policy sample step option"] | None = None
    target: Float[Tensor, "policy sample output"] | None = None
    principal: Int[Tensor, "policy sample"] | None = None

    @property
    def num_models(self) -> int:
        """How many policies learn."""
        return self.mask.shape[0]

    @property
    def num_samples(self) -> int:
        """How many stretches of acts each has."""
        return self.mask.shape[1]

    @property
    def num_steps(self) -> int:
        """How long the longest stretch is."""
        return self.mask.shape[2]

    def validate(self, check_values: bool = True) -> FeedbackBatch:
        """The batch, once its fields were found to fit together.

        Args:
            check_values: look at numbers, too: weights must be finite, pairs and lists name samples.

        Raises:
            UserError: a field is of another type or shape than the others ask for.
        """
        for name in ("observation", "action"):
            shape = list(getattr(self, name).shape)
            if shape[:3] != list(self.mask.shape):
                raise UserError(
                    f"{name} is {shape}, and must begin as mask, {list(self.mask.shape)} "
                    "(policy, sample, step)",
                    code="wrong_shape",
                    path=name,
                )
        with jaxtyped("context"):  # a dimension of a name is as long in all fields
            for name, wanted in _field_types().items():
                found = getattr(self, name)
                if not isinstance(found, wanted):
                    message = f"{name} is {_value_text(found)}, and must be {_shape_text(name)}"
                    raise UserError(message, code=_code(name, found), path=name)
        if check_values:
            self._validate_values()
        return self

    def _validate_values(self) -> None:
        """Refuse weights that are no numbers, and indices that lead nowhere."""
        for name in ("step_weight", "pair_weight", "pair_margin", "reliability"):
            weight = getattr(self, name)
            if weight is None:
                continue
            weight = weight[self.mask] if name == "step_weight" else weight
            if not bool(torch.isfinite(weight).all()):
                raise UserError(
                    f"{name} must be finite, and some of it is not", code="not_finite", path=name
                )
        for name in ("pairs", "candidates"):
            index = getattr(self, name)
            if index is not None and not bool(((index >= -1) & (index < self.num_samples)).all()):
                raise UserError(
                    f"{name} names samples 0 to {self.num_samples - 1}, or -1 for none",
                    code="out_of_range",
                    path=name,
                )

    def require(self, name: str, caller: str) -> Tensor:
        """A field that must be there.

        Args:
            name: of the field.
            caller: who needs it, for the message.

        Raises:
            UserError: it is missing.
        """
        found = getattr(self, name, None)
        if found is None:
            have = [f.name for f in dataclasses.fields(self) if getattr(self, f.name) is not None]
            raise UserError(
                f"{caller} needs {name!r}, and the batch has {', '.join(have)}",
                code="missing",
                path=name,
            )
        return found

    def replace(self, **changes: Any) -> FeedbackBatch:
        """The batch with other fields.

        Raises:
            UserError: there is no such field.
        """
        known = [field.name for field in dataclasses.fields(self)]
        for name in changes:
            if name not in known:
                raise UserError(
                    f"a batch has no field {name!r}{did_you_mean(name, known)}",
                    code="unknown_name",
                    path=name,
                )
        return dataclasses.replace(self, **changes)

    def take_pairs(self, index: Int[Tensor, "policy some"]) -> FeedbackBatch:
        """The samples of some pairs of every policy, those of a pair beside each other.

        A pair that is not there (-1) stays one that is not there.

        Raises:
            UserError: there are no pairs.
        """
        pairs = take_rows(self.require("pairs", "a choice of pairs"), index)
        kept = {name: getattr(self, name) for name in PAIR_FIELDS}
        picked = {
            name: take_rows(field, index) for name, field in kept.items() if field is not None
        }
        places = torch.arange(2 * index.shape[1], device=index.device).view(1, -1, 2)
        there = (pairs >= 0).all(-1, keepdim=True)
        return self.take(pairs.clamp(min=0).flatten(1)).replace(
            pairs=torch.where(there, places, -1), **picked
        )

    def take(self, index: Int[Tensor, "policy some"]) -> FeedbackBatch:
        """Some samples of every policy, for minibatches; pairs and lists are left out.

        Raises:
            UserError: an index leads nowhere (a GPU stops with words of its own).
        """
        if index.dim() != 2 or len(index) != self.num_models:
            shape = list(index.shape)
            raise UserError(
                f"samples of each of {self.num_models} policies, not an index {shape}",
                code="wrong_shape",
                path="index",
            )
        taken: dict[str, Any] = {"kl_baseline": self.kl_baseline}
        try:
            for name in SAMPLE_FIELDS:
                field = getattr(self, name)
                if field is not None:
                    taken[name] = take_rows(field, index)
        except IndexError as error:
            raise UserError(
                f"samples are numbered 0 to {self.num_samples - 1}: {error}",
                code="out_of_range",
                path="index",
            ) from None
        return FeedbackBatch(**taken)

    def slice_samples(self, start: int, stop: int) -> FeedbackBatch:
        """Samples `start` ... `behind - 1` of every policy, without a copy; no pairs and lists."""
        taken: dict[str, Any] = {"kl_baseline": self.kl_baseline}
        for name in SAMPLE_FIELDS:
            field = getattr(self, name)
            if field is not None:
                taken[name] = field[:, start:stop]
        return FeedbackBatch(**taken)


@functools.cache
def _field_types() -> dict[str, Any]:
    """What each field of a batch must be."""
    return typing.get_type_hints(FeedbackBatch)


def _shape_text(name: str) -> str:
    """A field's annotation as a reader takes it: `Float[policy, sample, step]`."""
    wanted = next(one for one in typing.get_args(_field_types()[name]) or (_field_types()[name],))
    return f"{wanted.__name__.partition('[')[0]}[{', '.join(wanted.dim_str.split())}]"


def _code(name: str, found: Any) -> str:
    """Whether a field that does not fit is of another type, or of another shape."""
    hint = _field_types()[name]
    wanted = next(one for one in typing.get_args(hint) or (hint,))
    fits = isinstance(found, Tensor) and str(found.dtype).removeprefix("torch.") in wanted.dtypes
    return "wrong_shape" if fits else "wrong_type"


def _value_text(value: Any) -> str:
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}"
    return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"


SAMPLE_FIELDS = (
    *(
        "observation",
        "action",
        "mask",
        "action_mask",
        "step_weight",
        "episode_start",
        "recurrent_state",
        "old_logp",
        "old_value",
        "advantage",
        "value_target",
    ),
    *("reward", "group", "desirable", "critique", "inappropriate", "known", "evidence_mask"),
    *("is_demonstration", "reference_logp", "reference_logits", "teacher_logits", "option_score"),
    *("target", "principal"),
)

PAIR_FIELDS = ("preferred", "pair_weight", "pair_margin", "annotator", "reliability")


def take_rows(field: Tensor, index: Int[Tensor, "policy some"]) -> Tensor:
    """Rows `index` of each policy of a field `[policy, sample, ...]`."""
    policies = torch.arange(len(field), device=field.device)[:, None]
    return field[policies, index]


@dataclasses.dataclass(frozen=True)
class ModelOutput:
    """What policies say of a batch: all that loss terms see of them.

    Attributes:
        logp: log-probability of what was done.
        logits: of all options, normalised (log-probabilities), for discrete acts; else None.
        entropy: of each act's distribution.
        value: what the value head expects, if there is one.
        score: of each sample, by reward heads, if there are any.
        embedding: what the policy makes of each sample, an embedding: what reward heads read.
    """

    logp: Float[Tensor, "policy sample step"]
    logits: Float[Tensor, "policy sample step option"] | None = None
    entropy: Float[Tensor, "policy sample step"] | None = None
    value: Float[Tensor, "policy sample step"] | None = None
    score: Float[Tensor, "policy sample output"] | None = None
    embedding: Float[Tensor, "policy sample size"] | None = None

    def require(self, name: str, caller: str) -> Tensor:
        """A part that must be there.

        Raises:
            UserError: the policy says nothing of the kind.
        """
        found = getattr(self, name, None)
        if found is None:
            raise UserError(f"{caller} needs a policy with {name!r}", code="missing", path=name)
        return found
