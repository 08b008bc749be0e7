"""Games that ask one thing of a learner each, and ways to let it learn and to test it."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import jaxtyping
import torch
from pydantic import Field
from torch import Tensor

from mores.core.environment import (
    Box,
    Discrete,
    Environment,
    MultiDiscrete,
    Part,
    Phase,
    Policy,
    Role,
    Space,
    StepResult,
)
from mores.core.people import People
from mores.core.random_streams import RandomStreams, Worlds
from mores.sim.simulator import Simulator


@dataclasses.dataclass(frozen=True)
class Moment:
    round: Tensor  # [world]
    number: Tensor  # [world]: of the world within its replicate
    replicate: Tensor  # [world]
    luck: Tensor  # [world, seat]: of the episode
    paid: Tensor  # [world, seat]: in the last round
    done: Tensor  # [world, seat]: the last choice


class OneRole(Environment[Moment]):
    """What the games here have in common: one role, and a clock."""

    seats: int = Field(1, ge=1)

    def sees(self) -> Box:
        return Box.of(round=1, number=1, luck=1)

    def space(self) -> Space:
        return Discrete(2)

    @property
    def roles(self) -> tuple[Role, ...]:
        return (Role("actor", self.seats, self.sees()),)

    @property
    def phases(self) -> tuple[Phase, ...]:
        return (Phase("act", {"actor": self.space()}),)

    def reset(self, streams: RandomStreams, people: People | None = None) -> Moment:
        luck = streams.uniform("luck", self.seats)[..., 0]
        zero = torch.zeros(streams.num_worlds)
        return Moment(
            zero, streams.world.float(), streams.replicate.float(), luck, 0 * luck, 0 * luck
        )

    def observe(self, state: Moment, role: str, phase: str) -> Tensor:
        each = [x[:, None].expand(-1, self.seats) for x in (state.round, state.number)]
        return torch.stack([*each, state.luck], -1)

    def pay(self, state: Moment, action: Tensor, draws: RandomStreams) -> Tensor:
        return torch.zeros_like(state.luck)

    def ends(self, after: Moment) -> Tensor | None:
        return None

    def tell(self, after: Moment) -> dict[str, Tensor]:
        return {}

    def step(
        self, state: Moment, phase: str, actions: Mapping[str, Tensor], streams: RandomStreams
    ) -> StepResult[Moment]:
        action = actions["actor"]
        paid = self.pay(state, action, streams)
        done = action.float() if action.dim() == 2 else action[..., 0].float()
        after = dataclasses.replace(state, round=state.round + 1, paid=paid, done=done)
        told = self.tell(after)
        feedback = {"actor": told} if told else {}
        return StepResult(after, {"actor": paid}, self.ends(after), feedback)

    def metrics(self, state: Moment) -> Mapping[str, Tensor]:
        return {"paid": state.paid, "done": state.done, "round": state.round}


class Bare(Environment[Tensor]):
    """Nobody sees anything, and nothing is measured: each act is worth its number."""

    @property
    def roles(self) -> tuple[Role, ...]:
        return (Role("actor", 2, Box.of()),)

    @property
    def phases(self) -> tuple[Phase, ...]:
        return (Phase("act", {"actor": Discrete(2)}),)

    def reset(self, streams: RandomStreams, people: object = None) -> Tensor:
        return torch.zeros(streams.num_worlds)

    def observe(self, state: Tensor, role: str, phase: str) -> Tensor:
        return torch.zeros(len(state), 2, 0)

    def step(
        self, state: Tensor, phase: str, actions: Mapping[str, Tensor], streams: RandomStreams
    ) -> StepResult[Tensor]:
        return StepResult(state, {"actor": actions["actor"].float()})

    def metrics(self, state: Tensor) -> Mapping[str, Tensor]:
        return {}


class Clockwork(OneRole):
    """World w's episodes take `lengths[w]` rounds by themselves; round t pays t + 1, come what may.

    With the last round a seat is told its luck and its world; before, only nonsense is said.
    """

    lengths: tuple[int, ...] = (3,)

    def limit(self, state: Moment) -> Tensor:
        return torch.tensor(self.lengths)[state.number.long()]

    def pay(self, state: Moment, action: Tensor, draws: RandomStreams) -> Tensor:
        return (state.round + 1)[:, None].expand_as(state.luck)

    def ends(self, after: Moment) -> Tensor:
        return after.round >= self.limit(after)

    def tell(self, after: Moment) -> dict[str, Tensor]:
        number = after.number[:, None].expand_as(after.luck)
        said = torch.stack([number, after.luck], -1)
        return {"reward": torch.where(self.ends(after)[:, None, None], said, torch.nan)}


class Silent(Clockwork):
    """The same, and nobody says anything."""

    def tell(self, after: Moment) -> dict[str, Tensor]:
        return {}


class Poisoned(OneRole):
    """Pays the second option; something may be wrong in replicate `sick`, from round `since` on.

    `pay`: it pays NaN. `sight`: it shows NaN. `scale`: it pays a million times as much.
    """

    sick: int = -1
    since: int = 0
    wrong: str = "pay"

    def is_wrong(self, state: Moment, how: str) -> Tensor:
        here = (state.replicate == self.sick) & (state.round >= self.since)
        return (here & (self.wrong == how))[:, None]

    def observe(self, state: Moment, role: str, phase: str) -> Tensor:
        seen = super().observe(state, role, phase)
        return torch.where(self.is_wrong(state, "sight")[..., None], torch.nan, seen)

    def pay(self, state: Moment, action: Tensor, draws: RandomStreams) -> Tensor:
        paid = action.float() + 0.1 * draws.normal("luck", self.seats)[..., 0]
        paid = torch.where(self.is_wrong(state, "scale"), 1e6 * paid, paid)
        return torch.where(self.is_wrong(state, "pay"), torch.nan, paid)


class Aim(OneRole):
    """A point of a box earns minus its squared distance from a target that depends on luck."""

    bounded: bool = True

    def space(self) -> Space:
        return Box.of(at=Part(2, -2.0, 6.0) if self.bounded else Part(2))

    def target(self, luck: Tensor) -> Tensor:
        return torch.stack([2.0 * luck, 1.5 - luck], -1)

    def pay(self, state: Moment, action: Tensor, draws: RandomStreams) -> Tensor:
        return -(action - self.target(state.luck)).square().sum(-1)


class Locks(OneRole):
    """Two choices at once. Luck says which options are open; the highest open ones pay most."""

    options: tuple[int, ...] = (4, 3)

    def space(self) -> Space:
        return MultiDiscrete(self.options)

    def action_mask(self, state: Moment, role: str, phase: str) -> Tensor:
        half = state.luck[..., None] < 0.5
        first = (torch.arange(4) < 3) | ~half  # the highest is closed to one half
        second = (torch.arange(3) < 2) | half  # and to the other half
        return torch.cat([first, second], -1)

    def pay(self, state: Moment, action: Tensor, draws: RandomStreams) -> Tensor:
        return action.float().sum(-1)


class Cue(OneRole):
    """A cue is shown in the first round; the last of `delay + 1` rounds pays whoever repeats it."""

    delay: int = 3

    def sees(self) -> Box:
        return Box.of(cue=Part(2, 0.0, 1.0), last=Part(1, 0.0, 1.0))

    def observe(self, state: Moment, role: str, phase: str) -> Tensor:
        cue = torch.nn.functional.one_hot((state.luck < 0.5).long(), 2).float()
        shown = torch.where((state.round == 0)[:, None, None], cue, 0.0)
        last = (state.round >= self.delay).float()[:, None, None].expand(-1, self.seats, 1)
        return torch.cat([shown, last], -1)

    def pay(self, state: Moment, action: Tensor, draws: RandomStreams) -> Tensor:
        right = action == (state.luck < 0.5).long()
        return torch.where((state.round >= self.delay)[:, None], right.float(), 0.0)

    def ends(self, after: Moment) -> Tensor:
        return after.round > self.delay


class Draft(OneRole):
    """Two phases: a draft (a choice of three), then a point; only both together pay.

    The point earns minus its distance from the draft's number, plus what the draft is worth. The
    draft is seen when the point is named.
    """

    worth: tuple[float, ...] = (0.0, 1.0, 0.5)

    def sees(self) -> Box:
        return Box.of(draft=Part(3, 0.0, 1.0), naming=Part(1, 0.0, 1.0))

    @property
    def phases(self) -> tuple[Phase, ...]:
        point = Box.of(point=Part(1, -1.0, 3.0))
        return Phase("draft", {"actor": Discrete(3)}), Phase("point", {"actor": point})

    def observe(self, state: Moment, role: str, phase: str) -> Tensor:
        naming = phase == "point"
        draft = torch.nn.functional.one_hot(state.done.long(), 3).float() * naming
        return torch.cat([draft, torch.full_like(draft[..., :1], float(naming))], -1)

    def step(
        self, state: Moment, phase: str, actions: Mapping[str, Tensor], streams: RandomStreams
    ) -> StepResult[Moment]:
        action = actions["actor"]
        if phase == "draft":
            return StepResult(dataclasses.replace(state, done=action.float()))
        off = (action[..., 0] - state.done).abs()
        paid = torch.tensor(self.worth)[state.done.long()] - off
        after = dataclasses.replace(state, round=state.round + 1, paid=paid)
        return StepResult(after, {"actor": paid})


# --- to learn and to be tested ------------------------------------------------------------------


@contextlib.contextmanager
def unchecked() -> Iterator[None]:
    """Without the checks of shapes, which take most of the time of learning with small networks.

    Also a decorator, `@unchecked()`. Shorter tests of the same code are checked.
    """
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", before)


def taught(
    game: Environment[Any],
    players: Mapping[str, Policy],
    worlds: Worlds,
    episodes: int = 1,
    rounds: int = 100,
    seed: int = 0,
    **more: Any,
) -> Simulator:
    """A table at which episodes were played."""
    table = Simulator(game, players, worlds=worlds, rounds=rounds, **more)
    table.reset(seed)
    play_on(table, episodes)
    return table


def play_on(table: Simulator, episodes: int) -> None:
    """Play the rest of this episode, and further ones."""
    for episode in range(episodes):
        if episode:
            table.next_episode()
        while not table.all_finished:
            table.step()


def frozen(table: Simulator, game: Environment[Any] | None = None, **more: Any) -> Simulator:
    """A table for a test stage: what was learned stays, the likeliest is done; nothing played."""
    options = {"rounds": table.rounds, "stage": 9, "learning": [], "assisting": True, **more}
    test = Simulator(game or table.environment, table.policies, worlds=table.worlds, **options)
    test.reset(table.seed or 0, table.policy_states)
    return test


def policies(table: Simulator, role: str | None = None) -> dict[str, Tensor]:
    """Parameters of the policies at a table, by name, copied."""
    role = role or next(iter(table.policy_states))
    return {
        n: t.clone() for n, t in table.policy_states[role].learned.train_state.parameters.items()
    }
