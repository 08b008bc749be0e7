"""Gumbel numbers of tokens: addresses, and that rows are those of single worlds and agents."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from mores.agents.language.coupling import token_gumbel
from mores.core.random_streams import RandomStreams, Worlds

STREAMS = RandomStreams.of(
    3, Worlds.grid(3, 2), stage=1, episode=torch.arange(6) % 4, round=torch.arange(6) // 2
)


@given(
    rows=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 40)), min_size=1, max_size=9),
    width=st.integers(1, 70),
    offset=st.integers(0, 5),
)
def test_a_row_has_the_numbers_of_its_world_and_agent(
    rows: list[tuple[int, int]], width: int, offset: int
) -> None:
    streams = STREAMS.child("player/judge/answer").at(offset)
    worlds, agents = torch.tensor(rows).unbind(1)
    found = streams.gumbel_rows("token 0 2", worlds, agents, width)
    for row in range(len(rows)):
        world, agent = worlds[row : row + 1], agents[row : row + 1]
        alone = streams.take(world).gumbel("token 0 2", agent, width)
        assert torch.equal(found[row], alone[0, 0])


def test_numbers_depend_on_every_part_of_the_address_and_on_nothing_else() -> None:
    width, rows = 300, torch.tensor([[0, 0], [1, 4], [2, 4]])

    def numbers(seed: int = 0, episode: int = 0, time: int = 0, phase: str = "answer") -> object:
        streams = RandomStreams.of(seed, Worlds.grid(2, 2), episode=episode, round=time)
        return token_gumbel(streams.child(f"player/judge/{phase}"), rows, 0, width)

    first = numbers()([0, 1, 2], 0)  # type: ignore[operator]
    assert torch.equal(numbers()([2, 0], 0), first[[2, 0]])  # type: ignore[operator]
    others = [numbers(seed=1), numbers(episode=1), numbers(time=1), numbers(phase="rate")]
    streams = RandomStreams.of(0, Worlds.grid(2, 2)).child("player/judge/answer")
    others.append(token_gumbel(streams, rows, 1, width))
    drawn = [first, *(each([0, 1, 2], 0) for each in others)]  # type: ignore[operator]
    drawn.append(numbers()([0, 1, 2], 1))  # type: ignore[operator]
    every = torch.cat(drawn).flatten()
    assert len(every.unique()) > 0.999 * len(every)  # 23 bits: a few are equal by chance
