"""One seat of one world as a Gymnasium environment: numpy, one step for each own turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from jaxtyping import Bool, Float

from mores.clients import text_rendering
from mores.clients.array_conversion import known_mode, no_options, numbers, plain, sampling_mask
from mores.clients.resolve import Made
from mores.clients.single_agent import OneSeat
from mores.core.environment import Game, Player
from mores.core.errors import UserError
from mores.sim.simulator import Population

Observation = Float[np.ndarray, " size"]


class Env(gymnasium.Env[Observation, Any]):
    """One seat of a game; everybody else is a player inside.

    A step is one own turn, and its reward is all that the seat earned since its last one. `info`
    holds `action_mask` where actions are choices (int8, as `action_space.sample` takes it: where
    several are made at once, a tuple with a mask for each), `repaired`: whether the last action was
    out of range or illegal and had to be changed, and the measures that were asked for. An episode
    ends where the game says so (`terminated`) or after `rounds` rounds (`truncated`).

    Args:
        game: the name of an environment (`mores list`), or a game.
        seat: as in `person_3`; by default the first seat of the role with the fewest seats.
        rounds: length of an episode.
        players: by role, for all other seats: `{"person": {"kind": "respondent"}}`, or ready
            players; by default the game's baseline.
        population: where people come from: `{"kind": "anes96"}`; by default the game's own.
        measures: names of measures to put in `info`. They may tell what the seat must not see.
        render_mode: `ansi` gives text, `human` prints it; None shows nothing.
        **parameters: of the environment, where it is given by name.

    Raises:
        UserError: an unknown name or parameter, or a wrong value.
    """

    metadata = {"render_modes": list(text_rendering.MODES), "render_fps": 4}  # noqa: RUF012

    def __init__(
        self,
        game: str | Game[Any],
        seat: str | None = None,
        rounds: int = 100,
        players: Mapping[str, Player | Made] | None = None,
        population: Population | Made | None = None,
        measures: Sequence[str] = (),
        render_mode: str | None = None,
        **parameters: Any,
    ) -> None:
        known_mode(render_mode)
        self._own = OneSeat(
            game, seat, rounds, players, population, measures, 1, False, "cpu", parameters
        )
        self.game, self.table, self.seat = self._own.game, self._own.table, self._own.seat
        self.observation_space = self._own.observation_space
        self.action_space = self._own.action_space
        self.render_mode = render_mode

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode. Without a seed, the next one of the generator that was seeded last."""
        super().reset(seed=seed)
        no_options(options)
        self.table.reset(int(self.np_random.integers(2**63 - 1)))
        self._show()
        return self._own.look()[0].numpy(), self._info(False)

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Act, and play on to the next own turn or the end."""
        turn = self._own.act(numbers(action, self.seat.name)[None])
        seen = self._own.look() if turn.final is None else turn.final
        self._show()
        return (
            seen[0].numpy(),
            float(turn.pay[0]),
            bool(turn.terminated[0]),
            bool(turn.truncated[0]),
            self._info(bool(turn.repaired[0])),
        )

    def action_masks(self) -> Bool[np.ndarray, " option"]:
        """Which options are open now: sb3-contrib's masked learners ask for it by this name.

        Masks of several choices stand one after the other.
        """
        mask = self._own.mask()
        if mask is None:
            raise UserError(
                f"{self.seat.name} gives numbers, not choices: it has no mask",
                code="unsupported",
                path=self.seat.name,
            )
        return mask[0].numpy()

    def render(self) -> str | None:  # type: ignore[override]
        """What the seat sees, as text; in mode `human` it is printed at every step anyway."""
        if self.render_mode != "ansi":
            return None
        return self._page()

    def _page(self) -> str:
        return text_rendering.page(self.table, [self.seat], self._own.told(self.table.state))

    def _show(self) -> None:
        if self.render_mode == "human":
            print(self._page())

    def _info(self, repaired: bool) -> dict[str, Any]:
        info: dict[str, Any] = {"repaired": repaired}
        mask = self._own.mask()
        if mask is not None and self._own.options is not None:
            info["action_mask"] = sampling_mask(mask[0], self._own.options)
        told = self._own.told(self.table.state)
        return info | {name: plain(measure[0]) for name, measure in told.items()}
