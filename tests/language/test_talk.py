"""Games in words: what is told, what is read, and how one of several replies is drawn."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mores.agents.language.closed_choice import inverse_cdf_sample, token_log_probabilities
from mores.agents.language.prompting import Prompter, unparsed_action
from mores.core.environment import Box, Discrete, MultiDiscrete, Part, Phase, Role, Space
from mores.sim.action_validation import project_action
from tests.refusals import refused

AGENT = Role("agent", 2, Box.of(cost=1, offers=2))
WORK = Phase("work", {"agent": Discrete(3)})
POINT = Box.of(place=Part(2, -1.0, 1.0), weight=1)
SEVERAL = MultiDiscrete((2, 3))


def test_what_is_told() -> None:
    """Every part of the sight, the open options, and nothing else."""
    seen, legal = torch.tensor([0.25, 1.0, 1 / 3]), torch.tensor([True, False, True])
    talk = Prompter("Work pays.", {"work": ("rest", "try", "toil")})
    assert talk.opening(AGENT) == "Work pays.\nYou play the role of agent."
    assert talk.describe(AGENT, WORK, seen, legal).splitlines() == [
        "phase work",
        "cost: 0.25",
        "offers: 1 0.3333",
        "options: 0 rest, 2 toil",
        "Answer with the number of an option.",
    ]
    assert "options: 0 1 2" in Prompter().describe(AGENT, WORK, seen, None)
    vote = Phase("vote", {"agent": POINT})
    said = Prompter().describe(AGENT, vote, seen, None)
    assert "numbers: place: 2 from -1 to 1; weight: 1 from -inf to inf" in said
    assert "choices: 0-1 0-2" in Prompter().describe(
        AGENT, Phase("vote", {"agent": SEVERAL}), seen, None
    )


@pytest.mark.parametrize(
    ("space", "reply", "legal", "done"),
    [
        (Discrete(3), " 2\n", None, 2),
        (Discrete(3), "2", [True, True, False], None),
        (Discrete(12), "11", None, 11),
        (Discrete(3), "3", None, None),
        (Discrete(3), "option 2", None, None),
        (Discrete(3), "2.", None, None),
        (Discrete(3), "", None, None),
        (POINT, "0.5 -1 1e3", None, [0.5, -1.0, 1000.0]),
        (POINT, "0.5, -.25, 7", None, [0.5, -0.25, 7.0]),
        (POINT, "0.5 -2 0", None, None),
        (POINT, "0.5 nan 0", None, None),
        (POINT, "0.5 0 1e999", None, None),
        (POINT, "0.5 0", None, None),
        (SEVERAL, "1 2", None, [1, 2]),
        (SEVERAL, "1 3", None, None),
        (SEVERAL, "1 0.5", None, None),
        (SEVERAL, "1 2", [True, False, True, True, True], None),
    ],
)
def test_what_is_read(
    space: Space, reply: str, legal: list[bool] | None, done: int | list[float] | None
) -> None:
    """Numbers that are legal acts and nothing else; anything else the table repairs."""
    mask = None if legal is None else torch.tensor(legal)
    act = Prompter().parse_reply(space, reply, mask)
    assert (None if act is None else act.tolist()) == pytest.approx(done)
    act = unparsed_action(space) if act is None else act
    everyone = None if mask is None else mask[None, None]
    repaired = project_action(space, act[None, None], everyone, "agent")
    assert bool(repaired.projected) is (done is None)


@given(st.lists(st.floats(-20, 5) | st.just(-math.inf), min_size=1, max_size=8), st.integers(0, 7))
def test_every_option_gets_its_share(scores: list[float], option: int) -> None:
    """The option changes exactly where the distribution function does."""
    option %= len(scores)
    scores[option] = max(scores[option], -8.0)
    logps = torch.tensor(scores, dtype=torch.float64)
    chances = logps.softmax(0)
    below, share = float(chances[:option].sum()), float(chances[option])
    assert inverse_cdf_sample(logps, below + 0.01 * share) == option
    assert inverse_cdf_sample(logps, below + 0.99 * share) == option


def test_tokens_of_a_choice() -> None:
    """Token by token, the probabilities of one reply among all make up its probability."""
    replies = [[5, 1], [6, 1], [6, 7, 1], [6, 7, 7, 1]]
    chances = torch.tensor([0.1, 0.2, 0.3, 0.15], dtype=torch.float64)
    logps = chances.log().tolist()
    for chosen, reply in enumerate(replies):
        by_token = token_log_probabilities(replies, logps, chosen)
        assert len(by_token) == len(reply)
        assert sum(by_token) == pytest.approx(math.log(chances[chosen] / chances.sum()))
    first, second, third = token_log_probabilities(replies, logps, 2)
    assert first == pytest.approx(math.log(0.65 / 0.75))
    assert second == pytest.approx(math.log(0.45 / 0.65))
    assert third == pytest.approx(math.log(0.3 / 0.45))


def test_names_that_do_not_fit() -> None:
    with refused("unknown_name", path="options.wrk"):
        Prompter(option_descriptions={"wrk": ("a", "b", "c")}).check((WORK,), AGENT)
    with refused("wrong_shape", path="options.work"):
        Prompter(option_descriptions={"work": ("a", "b")}).check((WORK,), AGENT)
    Prompter(option_descriptions={"work": ("a", "b", "c")}).check((WORK,), AGENT)
