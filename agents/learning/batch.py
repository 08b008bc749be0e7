"""What a learner learns from: acts in context, and whatever anybody said of them.

A *policy* is one learner; `P` of them are trained at once and never meet. A *sample* is one stretch
of acts: a whole answer, an episode, or a single act. A *step* is one act of it. All tensors lead
with [policy, sample]; samples of different length are padded, and `mask` says what is real.

Every field but the first three may be missing; a loss term that needs one says which
(`FeedbackBatch.need`). Environments hand the fields of the second group to learners by these names
(`mores.core.environment.Step.feedback`).

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
        seen: what was seen before each act: `[policy, sample, step, size]`, or token ids without
            the last dimension.
        acted: what was done: `[policy, sample, step]`, several numbers for boxes and
            multi-discrete choices.
        mask: which steps are real; what is said of the others is ignored.
        step_weight: how much each step counts, for terms that weigh steps.
        begins: steps that begin an episode; `None`: each sample is within one.
        carry: what the policy remembered before each sample; `None`: nothing.
        legal: open options of discrete acts.

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
        judgement: what was said of each sample in words or values, an input for the policy.
        inappropriate: steps that are to be avoided.
        known: whether the policy knows the answer of each sample, for honesty.
        evidence: which parts of a sight may be seen; hidden ones are 0.

        reference: which samples are demonstrations, not the policy's own.
        reference_logp: log-probability of each act under the policy that training began from.
        reference_logits: of all options.
        teacher_logp: log-probabilities of all options under a teacher.
        option_score: what each option is worth at each step, such as a teacher's advantage.
        target: what a regression head should say of each sample.
        principal: who gave the feedback on each sample.
    """

    seen: Tensor
    acted: Tensor
    mask: Bool[Tensor, "policy sample step"]
    legal: Bool[Tensor, "policy sample step option"] | None = None
    step_weight: Float[Tensor, "policy sample step"] | None = None
    begins: Bool[Tensor, "policy sample step"] | None = None
    carry: Float[Tensor, "policy sample memory"] | None = None

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
    judgement: Float[Tensor, "policy sample word"] | None = None
    inappropriate: Bool[Tensor, "policy sample step"] | None = None
    known: Bool[Tensor, "policy sample"] | None = None
    evidence: Bool[Tensor, "policy sample size"] | None = None

    reference: Bool[Tensor, "policy sample"] | None = None
    reference_logp: Float[Tensor, "policy sample step"] | None = None
    reference_logits: Float[Tensor, "policy sample step option"] | None = None
    teacher_logp: Float[Tensor, "policy sample step option"] | None = None
    option_score: Float[Tensor, "policy sample step option"] | None = None
    target: Float[Tensor, "policy sample output"] | None = None
    principal: Int[Tensor, "policy sample"] | None = None

    @property
    def policies(self) -> int:
        """How many policies learn."""
        return self.mask.shape[0]

    @property
    def samples(self) -> int:
        """How many stretches of acts each has."""
        return self.mask.shape[1]

    @property
    def steps(self) -> int:
        """How long the longest stretch is."""
        return self.mask.shape[2]

    def checked(self, values: bool = True) -> FeedbackBatch:
        """The batch, once its fields were found to fit together.

        Args:
            values: look at numbers, too: weights must be finite, pairs and lists name samples.

        Raises:
            UserError: a field is of another type or shape than the others ask for.
        """
        for name in ("seen", "acted"):
            shape = list(getattr(self, name).shape)
            if shape[:3] != list(self.mask.shape):
                raise UserError(
                    f"{name} is {shape}, and must begin as mask, {list(self.mask.shape)} "
                    "(policy, sample, step)",
                    code="wrong_shape",
                    path=name,
                )
        with jaxtyped("context"):  # a dimension of a name is as long in all fields
            for name, wanted in _hints().items():
                found = getattr(self, name)
                if not isinstance(found, wanted):
                    message = f"{name} is {_shown(found)}, and must be {_dimensions(name)}"
                    raise UserError(message, code=_code(name, found), path=name)
        if values:
            self._look()
        return self

    def _look(self) -> None:
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
            if index is not None and not bool(((index >= -1) & (index < self.samples)).all()):
                raise UserError(
                    f"{name} names samples 0 to {self.samples - 1}, or -1 for none",
                    code="out_of_range",
                    path=name,
                )

    def need(self, name: str, why: str) -> Tensor:
        """A field that must be there.

        Args:
            name: of the field.
            why: who needs it, for the message.

        Raises:
            UserError: it is missing.
        """
        found = getattr(self, name, None)
        if found is None:
            have = [f.name for f in dataclasses.fields(self) if getattr(self, f.name) is not None]
            raise UserError(
                f"{why} needs {name!r}, and the batch has {', '.join(have)}",
                code="missing",
                path=name,
            )
        return found

    def replace(self, **fields: Any) -> FeedbackBatch:
        """The batch with other fields.

        Raises:
            UserError: there is no such field.
        """
        known = [field.name for field in dataclasses.fields(self)]
        for name in fields:
            if name not in known:
                raise UserError(
                    f"a batch has no field {name!r}{did_you_mean(name, known)}",
                    code="unknown_name",
                    path=name,
                )
        return dataclasses.replace(self, **fields)

    def take_pairs(self, index: Int[Tensor, "policy some"]) -> FeedbackBatch:
        """The samples of some pairs of every policy, those of a pair beside each other.

        A pair that is not there (-1) stays one that is not there.

        Raises:
            UserError: there are no pairs.
        """
        pairs = pick(self.need("pairs", "a choice of pairs"), index)
        kept = {name: getattr(self, name) for name in PER_PAIR}
        picked = {name: pick(field, index) for name, field in kept.items() if field is not None}
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
        if index.dim() != 2 or len(index) != self.policies:
            shape = list(index.shape)
            raise UserError(
                f"samples of each of {self.policies} policies, not an index {shape}",
                code="wrong_shape",
                path="index",
            )
        taken: dict[str, Any] = {"kl_baseline": self.kl_baseline}
        try:
            for name in PER_SAMPLE:
                field = getattr(self, name)
                if field is not None:
                    taken[name] = pick(field, index)
        except IndexError as error:
            raise UserError(
                f"samples are numbered 0 to {self.samples - 1}: {error}",
                code="out_of_range",
                path="index",
            ) from None
        return FeedbackBatch(**taken)

    def part(self, first: int, behind: int) -> FeedbackBatch:
        """Samples `first` ... `behind - 1` of every policy, without a copy; no pairs and lists."""
        taken: dict[str, Any] = {"kl_baseline": self.kl_baseline}
        for name in PER_SAMPLE:
            field = getattr(self, name)
            if field is not None:
                taken[name] = field[:, first:behind]
        return FeedbackBatch(**taken)


@functools.cache
def _hints() -> dict[str, Any]:
    """What each field of a batch must be."""
    return typing.get_type_hints(FeedbackBatch)


def _dimensions(name: str) -> str:
    """A field's annotation as a reader takes it: `Float[policy, sample, step]`."""
    wanted = next(one for one in typing.get_args(_hints()[name]) or (_hints()[name],))
    return f"{wanted.__name__.partition('[')[0]}[{', '.join(wanted.dim_str.split())}]"


def _code(name: str, found: Any) -> str:
    """Whether a field that does not fit is of another type, or of another shape."""
    hint = _hints()[name]
    wanted = next(one for one in typing.get_args(hint) or (hint,))
    fits = isinstance(found, Tensor) and str(found.dtype).removeprefix("torch.") in wanted.dtypes
    return "wrong_shape" if fits else "wrong_type"


def _shown(found: Any) -> str:
    if not isinstance(found, Tensor):
        return f"a {type(found).__name__}"
    return f"{str(found.dtype).removeprefix('torch.')} {list(found.shape)}"


PER_SAMPLE = (
    *(
        "seen",
        "acted",
        "mask",
        "legal",
        "step_weight",
        "begins",
        "carry",
        "old_logp",
        "old_value",
        "advantage",
        "value_target",
    ),
    *("reward", "group", "desirable", "judgement", "inappropriate", "known", "evidence"),
    *("reference", "reference_logp", "reference_logits", "teacher_logp", "option_score"),
    *("target", "principal"),
)

PER_PAIR = ("preferred", "pair_weight", "pair_margin", "annotator", "reliability")


def pick(field: Tensor, index: Int[Tensor, "policy some"]) -> Tensor:
    """Rows `index` of each policy of a field `[policy, sample, ...]`."""
    policies = torch.arange(len(field), device=field.device)[:, None]
    return field[policies, index]


@dataclasses.dataclass(frozen=True)
class Output:
    """What policies say of a batch: all that loss terms see of them.

    Attributes:
        logp: log-probability of what was done.
        logits: of all options, normalised (log-probabilities), for discrete acts; else None.
        entropy: of each act's distribution.
        value: what the value head expects, if there is one.
        score: of each sample, by reward heads, if there are any.
        hidden: what the policy makes of each sample, an embedding: what reward heads read.
    """

    logp: Float[Tensor, "policy sample step"]
    logits: Float[Tensor, "policy sample step option"] | None = None
    entropy: Float[Tensor, "policy sample step"] | None = None
    value: Float[Tensor, "policy sample step"] | None = None
    score: Float[Tensor, "policy sample output"] | None = None
    hidden: Float[Tensor, "policy sample size"] | None = None

    def need(self, name: str, why: str) -> Tensor:
        """A part that must be there.

        Raises:
            UserError: the policy says nothing of the kind.
        """
        found = getattr(self, name, None)
        if found is None:
            raise UserError(f"{why} needs a policy with {name!r}", code="missing", path=name)
        return found
