"""Policy gradient on a table of probabilities, which also keeps the average of its policies.

One row of logits for each observation of a role of `control` (task, audits left, class):

    logits(o) += learning_rate * mean over episodes of sum_t (1[a_t] - p(o_t)) (R_t - b(o_t))

R_t is the sum of rewards from task t on, b(o) its mean over the visits of o in the batch. If two
roles of a zero-sum game learn at the same time, the last policies need not converge; averages over
updates can come closer to an equilibrium. `evaluates: average` plays and evaluates the average

    sum_i r_i(o) p_i(o) / sum_i r_i(o),

r_i(o) the probability to reach o under policy i if the other side chooses uniformly. To draw one of
the policies at the start of each episode leads to the same choices, against that other side; a
plain mean would give policies weight where they hardly ever come. Observations do not record the
own earlier choices, so that against other opponents this is an approximation.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from mores.core import pytree
from mores.core.environment import Phase, Role, Transition
from mores.core.errors import UserError
from mores.core.learner import Learner, TrainingDiagnostics, TrainingMode
from mores.core.policy import ActionOutput
from mores.core.random_streams import RandomStreams
from mores.core.spaces import Discrete
from mores.envs.oversight.control_auditor import reach_probabilities
from mores.envs.oversight.control_observations import table_index
from mores.envs.oversight.control_policies import GameRole, GameState


@dataclasses.dataclass(frozen=True)
class Tables:
    """Parameters of each model; a row is an observation.

    Attributes:
        logits: of the present policy.
        average: sum of the policies after every update, each row times the probability to reach it.
        reach: sum of these probabilities.
        updates: number of updates.
        replicate: replicate of each model, increasing.
    """

    logits: Float[Tensor, "model row option"]
    average: Float[Tensor, "model row option"]
    reach: Float[Tensor, "model row"]
    updates: Int[Tensor, " model"]
    replicate: Int[Tensor, " model"]


@dataclasses.dataclass(frozen=True)
class TableState:
    """State of the learner.

    Attributes:
        game: layout of the observation, and the game.
        role: name of the role that learns.
        replicate: replicate of each world, which has one model.
        row, action: in each task of the episode; row -1: not in service.
        reward: of each task.
        task: the present task.
        persistent: `Tables`.
    """

    game: Any
    role: str
    replicate: Int[Tensor, " world"]
    row: Int[Tensor, "world task"]
    action: Int[Tensor, "world task"]
    reward: Float[Tensor, "world task"]
    task: Int[Tensor, " world"]
    persistent: pytree.Persistent

    @property
    def tables(self) -> Tables:
        """The parameters."""
        return self.persistent.value

    @property
    def model(self) -> Int[Tensor, " world"]:
        """Model of each world."""
        return torch.searchsorted(self.tables.replicate, self.replicate)


class TableGradient(Learner):
    """Policy gradient on a table, for the roles `untrusted` and `auditor` with one agent."""

    tags: ClassVar[Mapping[str, object]] = {"stochastic": True}
    trains: ClassVar[Set[TrainingMode]] = {"online"}

    learning_rate: float = Field(
        default=0.5, ge=0, le=100, description="step of the logits per unit of the gradient"
    )
    evaluates: Literal["last", "average"] = Field(
        default="last", description="policy that acts: the last one, or the average over updates"
    )

    @property
    def frozen(self) -> bool:
        """Whether nothing changes the tables."""
        return self.learning_rate == 0

    def initial_state(
        self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams
    ) -> TableState:
        """Uniform policies.

        Raises:
            UserError: the role is not one of `control` with one agent whose observation is a row.
        """
        game = role.game if isinstance(role, GameRole) else None
        if game is None or role.num_agents > 1 or "score" in role.observation_space.parts:
            raise UserError(
                "table_gradient needs a role of control with one agent and without a score, not "
                f"{role.name}",
                code="unsupported",
                path=f"policies.{role.name}",
            )
        space = next(p.action_spaces[role.name] for p in phases if role.name in p.action_spaces)
        assert isinstance(space, Discrete)
        replicates = streams.replicate.unique()
        num_tasks, audits, classes = game.state_shape
        shape = (len(replicates), num_tasks * audits * classes, space.num_options)
        logits = torch.zeros(shape, device=streams.device)
        updates = torch.zeros(len(replicates), dtype=torch.int64, device=streams.device)
        blank = torch.full((streams.num_worlds, num_tasks), -1, device=streams.device)
        return TableState(
            game=GameState(role.observation_space, game),
            role=role.name,
            replicate=streams.replicate,
            row=blank,
            action=torch.zeros_like(blank),
            reward=torch.zeros_like(blank, dtype=torch.float32),
            task=torch.zeros_like(blank[:, 0]),
            persistent=pytree.Persistent(
                Tables(logits, torch.zeros_like(logits), logits.sum(-1), updates, replicates)
            ),
        )

    def on_episode_start(
        self, state: TableState, initial: Callable[[], TableState], reset_mask: Tensor
    ) -> TableState:
        """Without the record of the last episode in the reset worlds."""
        mask = reset_mask[:, None]
        return dataclasses.replace(
            state,
            row=torch.where(mask, -1, state.row),
            reward=torch.where(mask, 0.0, state.reward),
        )

    def _policy(self, tables: Tables) -> Float[Tensor, "model row option"]:
        last = tables.logits.softmax(-1)
        if self.evaluates == "last":
            return last
        reach = tables.reach[..., None]
        return torch.where(reach > 0, tables.average / reach.clamp(min=1e-30), last)

    def _rows(self, state: TableState, observation: Tensor) -> Int[Tensor, "*shape"]:
        game = state.game.game
        task, audits, kind = table_index(state.game.space, game, observation)
        _, num_audits, classes = game.state_shape
        return (task * num_audits + audits) * classes + kind

    def act(
        self,
        phase: Phase,
        observation: Float[Tensor, "world agent size"],
        action_mask: Tensor | None,
        state: TableState,
        streams: RandomStreams,
        search: bool = False,
    ) -> ActionOutput:
        """Draw an option; the only legal one where there is one."""
        row = self._rows(state, observation)[:, 0]
        p = self._policy(state.tables)[state.model, row][:, None]
        serves = state.game.space.read(observation, "in_service")[:, 0, 0] > 0.5
        if action_mask is not None:
            serves = serves & action_mask.all(-1)[:, 0]
        action = torch.where(serves[:, None], streams.ordered_categorical("act", p), 0)
        task = table_index(state.game.space, state.game.game, observation).task[:, 0]
        now = torch.arange(state.row.shape[1], device=row.device) == task[:, None]
        state = dataclasses.replace(
            state,
            row=torch.where(now, torch.where(serves, row, -1)[:, None], state.row),
            action=torch.where(now, action, state.action),
            task=task,
        )
        return ActionOutput(action, state)

    def expected_action(
        self,
        phase: Phase,
        observation: Float[Tensor, "world agent query size"],
        action_mask: Tensor | None,
        state: TableState,
        search: bool = False,
    ) -> Float[Tensor, "world agent query option"]:
        """The probabilities."""
        row = self._rows(state, observation)
        p = self._policy(state.tables)[state.model[:, None, None], row]
        if action_mask is None:
            return p
        only = torch.zeros_like(p)
        only[..., 0] = 1.0
        return torch.where(action_mask.all(-1, keepdim=True), p, only)

    def update(
        self, state: TableState, transition: Transition, streams: RandomStreams
    ) -> TableState:
        """Record the reward; update when all worlds have completed an episode."""
        now = torch.arange(state.row.shape[1], device=state.row.device) == state.task[:, None]
        earned = torch.where(transition.finished[:, None], 0.0, transition.reward)
        state = dataclasses.replace(state, reward=torch.where(now, earned, state.reward))
        complete = transition.done | transition.finished
        if not bool(complete.all()) or self.frozen:
            return state
        return dataclasses.replace(state, persistent=pytree.Persistent(self._updated(state)))

    def _updated(self, state: TableState) -> Tables:
        """Tables after a step along the policy gradient."""
        tables = state.tables
        num_models, num_rows, num_options = tables.logits.shape
        to_go = state.reward.flip(1).cumsum(1).flip(1)
        valid = state.row >= 0
        model = state.model
        index = (model[:, None] * num_rows + state.row)[valid]  # visit
        returns, actions = to_go[valid], state.action[valid]

        def summed(x: Tensor) -> Tensor:
            zero = x.new_zeros(num_models * num_rows, *x.shape[1:])
            return zero.index_add(0, index, x)

        visits = summed(torch.ones_like(returns))
        baseline = summed(returns) / visits.clamp(min=1)
        p = tables.logits.softmax(-1).flatten(0, 1)
        chosen = torch.nn.functional.one_hot(actions, num_options).to(p.dtype)
        step = summed((chosen - p[index]) * (returns - baseline[index])[:, None])
        episodes = torch.zeros(num_models, device=p.device)
        episodes = episodes.index_add(0, model, torch.ones_like(state.reward[:, 0]))
        step = step.view_as(tables.logits) / episodes[:, None, None]
        logits = tables.logits + self.learning_rate * step
        policy = logits.softmax(-1)
        reach = reach_probabilities(state.game.game, state.role, policy)
        return Tables(
            logits=logits,
            average=tables.average + reach[..., None] * policy,
            reach=tables.reach + reach,
            updates=tables.updates + 1,
            replicate=tables.replicate,
        )

    def state_dict(self, state: TableState) -> Mapping[str, Tensor]:
        """Logits, weighted sum of policies, weights and number of updates of each model."""
        tables = state.tables
        return {f.name: getattr(tables, f.name) for f in dataclasses.fields(tables)}

    def load_state_dict(self, state: TableState, tensors: Mapping[str, Tensor]) -> TableState:
        """State with these tables.

        Raises:
            UserError: names or shapes differ.
        """
        own = self.state_dict(state)
        shapes = {name: x.shape for name, x in own.items()}
        if shapes != {name: x.shape for name, x in tensors.items()}:
            message = "table_gradient: the saved tables have other names or shapes"
            raise UserError(message, code="wrong_shape", path="state_dict")
        return dataclasses.replace(state, persistent=pytree.Persistent(Tables(**tensors)))

    def diagnostics(self, state: TableState) -> Sequence[TrainingDiagnostics]:
        """Number of updates of each model."""
        return [TrainingDiagnostics(state.tables.updates, frozen=self.frozen)]
