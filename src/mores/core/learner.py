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
    """What became of the training of a learner's models since the stage began.

    Attributes:
        num_updates: updates of each model; `None`: the learner does not count them.
        stopped_at: round of training in which each model had to stop; -1: it has not.
        stop_reasons: models that stopped, one line each: model, time and reason.
        obstacle: what the next online update waits for, or why there can be none.
        min_rounds: rounds of an update, from the start of a stage; `None`: there can be none.
        frozen: whether the learner is not to train although it could, as a baseline.
        member: name of the member of a learner that consists of several.
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
        """`stop_reasons`, with the member."""
        prefix = f"{self.member}: " if self.member else ""
        return [prefix + line for line in self.stop_reasons]

    def no_update_reason(self, rounds: int) -> str:
        """Reason why the models can have no online update in so many rounds. Empty: none."""
        if self.frozen or (self.min_rounds is not None and rounds >= self.min_rounds):
            return ""
        prefix = f"{self.member}: " if self.member else ""
        count = "" if self.min_rounds is None else f"; there are {rounds} rounds in all"
        return f"{prefix}{self.obstacle}{count}"


class Learner(Policy):
    """Policy that trains. Its state outlives episodes and stages.

    Attributes:
        trains: `online`: it has `update`; `offline`: it has `fit_offline`; or both.
        separates_draws: whether worlds of different `streams.draw` have separate models, as those
            of different replicates have. If not, the draws of uncertain parameters are simulated
            one after another.
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
            return  # it depends on the parameters
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
        """State after one round of experience, for learners that train online."""
        raise NotImplementedError

    def fit_offline(self, state: Any, dataset: EpisodeDataset, streams: RandomStreams) -> Any:
        """State after one pass over recorded episodes, for learners that train offline."""
        raise NotImplementedError

    def state_dict(self, state: Any) -> Mapping[str, Tensor]:
        """Learned parameters by name, each leading with the model dimension, for checkpoints."""
        return {}

    def load_state_dict(self, state: Any, tensors: Mapping[str, Tensor]) -> Any:
        """State with the parameters of a `state_dict`, of a learner with the same models.

        Raises:
            UserError: the tensors do not fit.
        """
        if tensors:
            raise NotImplementedError
        return state

    def diagnostics(self, state: Any) -> Sequence[TrainingDiagnostics]:
        """What became of the training: one entry, or one for each member.

        A run reports models without updates. A claim about learning does not rest on them. Empty:
        nothing is known.
        """
        return ()

    def learning_metrics(self, state: Any) -> Mapping[str, Float[Tensor, " model"]]:
        """Quantities of the latest updates by name, such as losses, for training curves.

        Called once after every episode, or pass over a dataset. The models of a replicate stand
        side by side, replicates in order; each has a number in every quantity, NaN if it had no
        update since the last call. Empty: the learner reports nothing.
        """
        return {}

    def share_parameters(self, state: Any, other_state: Any) -> Any:
        """State that shares its parameters with `other_state`, of an equal learner at another role.

        Called before the first round for a learner that acts for several roles.
        """
        return state

    @property
    def parameter_keys(self) -> frozenset[str]:
        """Keys under which the parameters are stored. Empty if it does not train."""
        return frozenset([""]) if self.trains and not self.frozen else frozenset()

    @property
    def frozen(self) -> bool:
        """Whether it does not train although it could, as a baseline."""
        return False

    def dry_run_version(self) -> Policy:
        """The same learner with the least work that shows whether it can train, for a dry run."""
        return self


def can_train(policy: Policy, mode: TrainingMode) -> TypeGuard[Learner]:
    """Whether a policy trains online, or offline."""
    return isinstance(policy, Learner) and mode in policy.trains


def parameter_keys(policy: Policy) -> frozenset[str]:
    """Keys under which a policy's parameters are stored. Empty if it does not train."""
    return policy.parameter_keys if isinstance(policy, Learner) else frozenset()
