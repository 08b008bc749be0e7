"""Learners: policies that train, online on reward or offline on recorded episodes."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence, Set
from typing import Any, ClassVar, Literal, TypeGuard

from jaxtyping import Float, Integer
from torch import Tensor

from mores.core.environment import Transition
from mores.core.episode_dataset import EpisodeDataset
from mores.core.errors import UserError
from mores.core.policy import Policy
from mores.core.random_streams import RandomStreams

TrainingMode = Literal["online", "offline"]
METHODS: Mapping[TrainingMode, str] = {"online": "update", "offline": "fit_offline"}


@dataclasses.dataclass(frozen=True)
class TrainingDiagnostics:
    """State of the training of a learner's models since the stage began.

    Attributes:
        num_updates: updates of each model; `None`: the learner does not count them.
        stopped_at: round of training in which each model had to stop; -1: it has not.
        stop_reasons: models that stopped, one line each: model, time and reason.
        obstacle: condition of the next online update that is not met yet, or reason why there can
            be none; a phrase for messages.
        min_rounds: rounds from the start of a stage until the first update; `None`: there can be
            none.
        frozen: whether training is switched off, for use as a baseline.
        member: name of the member, for a learner with several; else empty.
        draw: draw of uncertain parameters of each model; `None`: 0 everywhere.
    """

    num_updates: Integer[Tensor, " model"] | None = None
    stopped_at: Integer[Tensor, " model"] | None = None
    stop_reasons: Sequence[str] = ()
    obstacle: str = ""
    min_rounds: int | None = 1
    frozen: bool = False
    member: str = ""
    draw: Integer[Tensor, " model"] | None = None

    @property
    def messages(self) -> list[str]:
        """`stop_reasons`, each with the name of the member before it."""
        prefix = f"{self.member}: " if self.member else ""
        return [prefix + line for line in self.stop_reasons]

    def no_update_reason(self, rounds: int) -> str:
        """Reason why the models cannot have an online update within `rounds`; empty if they can."""
        if self.frozen or (self.min_rounds is not None and rounds >= self.min_rounds):
            return ""
        prefix = f"{self.member}: " if self.member else ""
        count = "" if self.min_rounds is None else f"; there are {rounds} rounds in all"
        return f"{prefix}{self.obstacle}{count}"


class Learner(Policy):
    """Policy that trains. Its state is kept across episodes and stages.

    Attributes:
        trains: modes of training: `online` (it has `update`), `offline` (it has `fit_offline`).
        separates_draws: whether worlds of different draws of uncertain parameters (`streams.draw`)
            have separate models, as worlds of different replicates do. If not, draws are simulated
            one after another instead of in one batch.
    """

    keeps_state: ClassVar[bool] = True
    trains: ClassVar[Set[TrainingMode]] = set()
    separates_draws: ClassVar[bool] = False

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Check that `trains` names the methods that the class has.

        Raises:
            UserError: it does not.
        """
        if isinstance(cls.trains, (property, functools.cached_property)):
            return  # a property may depend on parameters: nothing to compare here
        if not isinstance(cls.trains, Set) or not cls.trains <= METHODS.keys():
            raise UserError(
                f"{cls.__name__}: `trains` must be a set of {', '.join(METHODS)}, not "
                f"{cls.trains!r:.60}",
                code="invalid_value",
                path=f"{cls.__name__}.trains",
            )
        for mode, method in METHODS.items():
            has_method = getattr(cls, method) is not getattr(Learner, method)
            if has_method != (mode in cls.trains):
                has = "has" if has_method else "has no"
                listed = "does not list" if has_method else "lists"
                raise UserError(
                    f"{cls.__name__} {has} `{method}`, and its `trains` {listed} {mode!r}",
                    code="conflict",
                    path=f"{cls.__name__}.trains",
                )

    def update(self, state: Any, transition: Transition, streams: RandomStreams) -> Any:
        """State after a transition of one round, for learners that train online."""
        raise NotImplementedError

    def fit_offline(self, state: Any, dataset: EpisodeDataset, streams: RandomStreams) -> Any:
        """State after one pass over recorded episodes, for learners that train offline."""
        raise NotImplementedError

    def state_dict(self, state: Any) -> Mapping[str, Tensor]:
        """Learned parameters by name, `[model, ...]` each, for checkpoints."""
        return {}

    def load_state_dict(self, state: Any, tensors: Mapping[str, Tensor]) -> Any:
        """State with the parameters of a `state_dict` of a learner with the same models.

        Raises:
            UserError: names or shapes of the tensors differ from those of the models.
        """
        if tensors:
            raise NotImplementedError
        return state

    def diagnostics(self, state: Any) -> Sequence[TrainingDiagnostics]:
        """State of the training: one entry, or one for each member. Empty: unknown.

        A run reports models without updates; a claim of kind `learned` fails if no model of
        its arm was updated.
        """
        return ()

    def learning_metrics(self, state: Any) -> Mapping[str, Float[Tensor, " model"]]:
        """Quantities of the latest updates by name, such as losses, for training curves.

        Called once after every episode, or pass over a dataset. Models are ordered by replicate;
        those of a replicate are adjacent. The number of a model without an update since the last
        call is NaN. Empty: the learner reports nothing.
        """
        return {}

    def share_parameters(self, state: Any, other_state: Any) -> Any:
        """State that shares its parameters with `other_state`, an equal learner's in another role.

        Called before the first round for a learner that acts for several roles.
        """
        return state

    @property
    def parameter_keys(self) -> frozenset[str]:
        """Keys under which the parameters are stored. Empty if it does not train."""
        return frozenset([""]) if self.trains and not self.frozen else frozenset()

    @property
    def frozen(self) -> bool:
        """Whether training is switched off, for use as a baseline."""
        return False

    def dry_run_version(self) -> Policy:
        """A learner with minimal work per update, for a dry run that tests whether it can train."""
        return self


def can_train(policy: Policy, mode: TrainingMode) -> TypeGuard[Learner]:
    """Whether a policy trains online, or offline."""
    return isinstance(policy, Learner) and mode in policy.trains


def parameter_keys(policy: Policy) -> frozenset[str]:
    """Keys under which a policy's parameters are stored. Empty if it does not train."""
    return policy.parameter_keys if isinstance(policy, Learner) else frozenset()
