"""Turns as prompts, replies as actions, and sampling of one of several replies."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mores.agents.language.closed_choice import inverse_cdf_sample, token_log_probabilities
from mores.agents.language.prompting import Prompter
from mores.core.environment import Phase, Role, with_text
from mores.core.spaces import Box, Discrete, MultiDiscrete, Part, Space
from mores.core.turn_text import decode_message, message_space, unparsed_action
from mores.envs.strategic.matrix_game import MatrixGame
from mores.sim.action_validation import project_action
from tests.refusals import refused

AGENT = Role("agent", 2, Box.of(cost=1, offers=2))
WORK = Phase("work", {"agent": Discrete(3)})
POINT = Box.of(position=Part(2, -1.0, 1.0), weight=1)
CHOICES = MultiDiscrete((2, 3))


def test_prompts_without_text() -> None:
    """Every part of the observation, the legal options by number, and the form of the reply."""
    observation, mask = torch.tensor([0.25, 1.0, 1 / 3]), torch.tensor([True, False, True])
    prompter = Prompter("Work pays.", {"work": ("rest", "try", "toil")})
    assert prompter.opening(AGENT) == "Work pays."
    assert Prompter().opening(AGENT) == "You play the role of agent."
    assert prompter.describe(AGENT, WORK, observation, mask).splitlines() == [
        "cost: 0.25",
        "offers: 1 0.3333",
        "Which option do you choose?",
        "1. rest",
        "3. toil",
        "Answer with the number of an option, and nothing else.",
    ]
    vote = Phase("vote", {"agent": POINT})
    text = Prompter().describe(AGENT, vote, observation, None)
    assert "State 3 numbers (position: 2 from -1 to 1; weight: 1 from -inf to inf)." in text
    vote = Phase("vote", {"agent": CHOICES})
    assert "0 to 1, 0 to 2" in Prompter().describe(AGENT, vote, observation, None)
    write = Phase("write", {"agent": message_space(40)})
    assert Prompter().describe(AGENT, write, observation, None).endswith("at most 40 bytes.")
    message = Prompter().parse_reply(AGENT, write, "Not a number", None)
    assert message is not None and decode_message(message) == "Not a number"


def test_prompts_with_the_text_of_an_environment() -> None:
    """Rules, turns and replies are the environment's; own words replace rules or options."""
    environment = MatrixGame(payoffs="stag_hunt")
    role, phase = with_text(environment, environment.roles[0]), environment.phases[0]
    observation = torch.tensor([1.0, 0, 0, 1, 1])
    prompter = Prompter()
    assert prompter.opening(role) == environment.role_rules("player")
    turn = environment.describe("player", "choose", observation)
    text = prompter.describe(role, phase, observation, None)
    assert text.splitlines() == [
        "Last round: you: hunt the stag; the other player: hunt the hare.",
        "What do you choose?",
        *(f"{i + 1}. {option}" for i, option in enumerate(turn.options)),
        "Answer with the number of an option, and nothing else.",
    ]
    own = Prompter("Hunt.", {"choose": ("stag", "hare")})
    assert own.opening(role) == "Hunt."
    assert "\n1. stag\n2. hare\n" in own.describe(role, phase, observation, None)
    for label, option in zip(prompter.option_labels(Discrete(2)), (0, 1), strict=True):
        assert prompter.parse_reply(role, phase, label, None) == torch.tensor(option)


@pytest.mark.parametrize(
    ("space", "reply", "legal", "expected"),
    [
        (Discrete(3), " 3\n", None, 2),
        (Discrete(3), "3", [True, True, False], None),
        (Discrete(12), "12", None, 11),
        (Discrete(3), "0", None, None),
        (Discrete(3), "4", None, None),
        (Discrete(3), "option 2", None, None),
        (Discrete(3), "1e999", None, None),
        (Discrete(3), "", None, None),
        (POINT, "0.5 -1 1e3", None, [0.5, -1.0, 1000.0]),
        (POINT, "0.5, -.25, 7", None, [0.5, -0.25, 7.0]),
        (POINT, "0.5 -2 0", None, None),
        (POINT, "0.5 nan 0", None, None),
        (POINT, "0.5 0 1e999", None, None),
        (POINT, "0.5 0", None, None),
        (CHOICES, "1 2", None, [1, 2]),
        (CHOICES, "1 3", None, None),
        (CHOICES, "1 0.5", None, None),
        (CHOICES, "1 2", [True, False, True, True, True], None),
    ],
)
def test_parsing(
    space: Space, reply: str, legal: list[bool] | None, expected: int | list[float] | None
) -> None:
    """Legal actions are parsed; the simulator projects all others."""
    mask = None if legal is None else torch.tensor(legal)
    action = Prompter().parse_reply(AGENT, Phase("act", {"agent": space}), reply, mask)
    assert (None if action is None else action.tolist()) == pytest.approx(expected)
    action = unparsed_action(space) if action is None else action
    batch_mask = None if mask is None else mask[None, None]
    result = project_action(space, action[None, None], batch_mask, "agent")
    assert bool(result.projected) is (expected is None)


@given(st.lists(st.floats(-20, 5) | st.just(-math.inf), min_size=1, max_size=8), st.integers(0, 7))
def test_options_are_sampled_with_their_probability(scores: list[float], option: int) -> None:
    """The option changes exactly at the steps of the distribution function."""
    option %= len(scores)
    scores[option] = max(scores[option], -8.0)
    logps = torch.tensor(scores, dtype=torch.float64)
    probabilities = logps.softmax(0)
    below, width = float(probabilities[:option].sum()), float(probabilities[option])
    assert inverse_cdf_sample(logps, below + 0.01 * width) == option
    assert inverse_cdf_sample(logps, below + 0.99 * width) == option


def test_token_log_probabilities() -> None:
    """The product of token probabilities is the probability of the reply among all."""
    replies = [[5, 1], [6, 1], [6, 7, 1], [6, 7, 7, 1]]
    probabilities = torch.tensor([0.1, 0.2, 0.3, 0.15], dtype=torch.float64)
    logps, shares = probabilities.log().tolist(), probabilities / probabilities.sum()
    for chosen, reply in enumerate(replies):
        token_logps = token_log_probabilities(replies, logps, chosen)
        assert len(token_logps) == len(reply)
        assert sum(token_logps) == pytest.approx(math.log(shares[chosen]))
    first, second, third = token_log_probabilities(replies, logps, 2)
    assert first == pytest.approx(math.log(0.65 / 0.75))
    assert second == pytest.approx(math.log(0.45 / 0.65))
    assert third == pytest.approx(math.log(0.3 / 0.45))


def test_invalid_option_descriptions() -> None:
    with refused("unknown_name", path="option_descriptions.wrk"):
        Prompter(option_descriptions={"wrk": ("a", "b", "c")}).check((WORK,), AGENT)
    with refused("wrong_shape", path="option_descriptions.work"):
        Prompter(option_descriptions={"work": ("a", "b")}).check((WORK,), AGENT)
    Prompter(option_descriptions={"work": ("a", "b", "c")}).check((WORK,), AGENT)
