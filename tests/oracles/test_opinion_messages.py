"""`opinion_messages` against formulas: who reads what, what moves values, and its text."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch

from mores.core.random_streams import RandomStreams
from mores.core.turn_text import decode_message, encode_message
from mores.envs.dynamics.degroot import DeGroot
from mores.envs.dynamics.peers import Peers
from mores.envs.graphs.convert import to_influence_graph
from mores.envs.graphs.homophily import Homophily
from mores.envs.opinion.message_policies import nearest_option, option_probabilities
from mores.envs.opinion.message_routing import draw_senders, listening_matrix, read_messages
from mores.envs.opinion.message_topic import Topic, quoted
from mores.envs.opinion.opinion_messages import OpinionMessages
from mores.registry import make_environment, make_population
from mores.sim.simulator import Simulator
from tests.refusals import refused

IDEALISED = {"human": "idealised", "ai_influence": 0.25}
SIZE = 40


def make(**parameters: Any) -> OpinionMessages:
    return make_environment("opinion_messages", **{"max_bytes": SIZE, **parameters})


def run(env: OpinionMessages, rounds: int, worlds: int = 3, **policies: Any) -> Simulator:
    simulator = Simulator(env, {**env.default_policies(), **policies}, worlds=worlds, rounds=99)
    simulator.reset(seed=5)
    for _ in range(rounds):
        simulator.step()
    return simulator


def messages(worlds: int, people: int) -> torch.Tensor:
    return torch.stack(
        [
            torch.stack([encode_message(f"{w} {p}", SIZE) for p in range(people)])
            for w in range(worlds)
        ]
    )


def test_people_read_their_neighbors():
    """On a directed graph, an isolated person, and two graphs of different size in one batch."""
    ties = np.array([[0, 1, 1, 0], [1, 0, 0, 0], [1, 1, 0, 1], [0, 0, 0, 0]], dtype=float)
    graph = to_influence_graph(scipy.sparse.csr_array(ties), 4)
    listens = listening_matrix(graph)
    assert listens.tolist() == [(ties > 0).tolist()]
    u = torch.rand(2, 4, 4, generator=torch.Generator().manual_seed(0))
    senders = draw_senders(listens, u, 2)
    read = read_messages(messages(2, 4), senders, 256)
    for world in range(2):
        for reader in range(4):
            heard = {decode_message(text) for text in read[world, reader]} - {""}
            neighbors = {f"{world} {j}" for j in np.flatnonzero(ties[reader])}
            assert heard <= neighbors and len(heard) == min(2, len(neighbors))
    other = to_influence_graph(scipy.sparse.csr_array(ties[::-1, ::-1]), 4)
    stacked = type(graph).stack([graph, other])
    assert torch.equal(listening_matrix(stacked)[0], listens[0])
    assert listening_matrix(stacked)[1].tolist() == (ties[::-1, ::-1] > 0).tolist()


def test_many_neighbors_are_sampled_evenly():
    listens = torch.ones(1, 5, 5, dtype=torch.bool)
    u = RandomStreams.of(0, 4000).uniform("heard", 5, 5)
    senders = draw_senders(listens, u, 2)
    counts = torch.bincount(senders[:, 0].flatten(), minlength=5) / 4000
    assert (counts - 0.4).abs().max() < 0.04
    assert (senders[..., 0] != senders[..., 1]).all()
    assert draw_senders(listens, u[:2], 7)[..., 5:].unique().tolist() == [-1]


def test_rule_moves_values_as_its_formula():
    """DeGroot on a ring, then a quarter of the way to the assistant's position, two rounds."""
    ring = Peers(rule=DeGroot(), graph=make().peers.graph)
    env = make(num_people=5, peers=ring, assistant_aim=4, initial_std=0.5, **IDEALISED)
    simulator = run(env, 0)
    x = simulator.state.people.values[..., 0].numpy().astype(np.float64)
    matrix = (np.eye(5) + np.roll(np.eye(5), 1, 1) + np.roll(np.eye(5), -1, 1)) / 3
    for _ in range(2):
        simulator.step()
        x = x @ matrix.T
        x = x + 0.25 * (2.0 - x)
        np.testing.assert_allclose(simulator.state.people.values[..., 0].numpy(), x, atol=1e-6)
    reward = (1 - (2.0 - x) / 4).mean(1)
    stated = {"person": option_probabilities(simulator.state.people.values[..., 0], -2.0, 2.0, 5)}
    result = env.step(simulator.state, "state", stated, RandomStreams.of(0, 3))
    x = x @ matrix.T
    x = x + 0.25 * (2.0 - x)
    reward = (1 - (2.0 - x) / 4).mean(1)
    np.testing.assert_allclose(result.reward["assistant"][:, 0].numpy(), reward, atol=1e-6)


@pytest.mark.parametrize("audience", ["everybody", "person"])
def test_a_silent_or_unread_assistant_has_no_effect(audience):
    parameters = {"num_people": 5, "audience": audience, **IDEALISED}
    silent = run(make(**parameters), 2)
    unread = run(make(assistant_aim=0, assistant_is_read=False, **parameters), 2)
    read = run(make(assistant_aim=0, **parameters), 2)
    neutral = run(make(**parameters), 2, assistant={"kind": "fixed_message", "text": "hm"})
    values = [each.state.people.values for each in (silent, unread, read, neutral)]
    assert torch.equal(values[0], values[1])
    assert (values[2] < values[0]).all()
    before = run(make(**parameters), 1).state.people.values
    if audience == "person":  # no position of its own: each person's own
        torch.testing.assert_close(values[3], values[0], atol=0.03, rtol=0)
    else:
        assert (values[3].var(1) < values[0].var(1)).all() and (before != values[0]).any()


def test_stated_values_are_means_of_stated_probabilities():
    env = make(num_people=3, value_source="stated")
    state = run(env, 1).state
    stated = torch.tensor([[1.0, 0, 0, 0, 1], [0, 0, 0, 0, 0], [0, 0.5, 0, 0, 0]])
    actions = {"person": stated.expand(3, -1, -1)}
    after = env.step(state, "state", actions, RandomStreams.of(0, 3)).state
    assert after.people.values[0, :, 0].tolist() == pytest.approx([0, 0, -1])
    metrics = env.metrics(after)
    assert metrics["stated_std"][0].item() == pytest.approx((2 + 2**0.5 + 0) / 3)
    rule = run(make(num_people=3), 1).state  # the same people and graph, by another source
    assert torch.equal(state.initial_values, rule.initial_values)
    assert torch.equal(state.senders, rule.senders)


def test_people_state_their_values_exactly():
    value = torch.linspace(-2.5, 2.5, 41)
    stated = option_probabilities(value, -2.0, 2.0, 5)
    torch.testing.assert_close(stated.sum(-1), torch.ones(41))
    torch.testing.assert_close(stated @ torch.linspace(-2, 2, 5), value.clamp(-2, 2))
    assert (stated > 0).sum(-1).max() == 2
    options = nearest_option(torch.tensor([-9.0, -1.51, -1.49, 0.5, 1.9]), -2.0, 2.0, 5)
    assert options.tolist() == [0, 0, 1, 3, 4]
    simulator = run(make(num_people=4, value_source="stated"), 3)
    torch.testing.assert_close(simulator.state.people.values, simulator.state.initial_values)
    text = decode_message(simulator.state.messages[0, 0])
    option = nearest_option(simulator.state.people.values[0, 0, 0], -2.0, 2.0, 5)
    assert text == Topic().statements[option][:SIZE]


def test_message_metrics():
    env = make(num_people=3, value_source="stated")
    state = run(env, 1).state
    new = torch.stack([encode_message(text, SIZE) for text in ("", "yes", "yes")])
    old = torch.stack([encode_message(text, SIZE) for text in ("no", "yes", "no")])
    state = dataclasses.replace(
        state, messages=new.expand(3, -1, -1), previous_messages=old.expand(3, -1, -1)
    )
    metrics = {name: x[0].tolist() for name, x in env.metrics(state).items()}
    names = (
        "message_bytes",
        "empty_message_share",
        "distinct_message_share",
        "repeated_message_share",
        "reply_bytes",
    )
    expected = pytest.approx([2, 1 / 3, 2 / 3, 1 / 3, 0])
    assert [metrics[name] for name in names] == expected


def test_graphs_of_each_world():
    graph = Homophily(degree=2, num_candidates=4)
    env = make(num_people=6, peers=Peers(rule=DeGroot(), graph=graph), max_messages_read=3)
    state = run(env, 1).state
    alone = Simulator(env, env.default_policies(), worlds=[2], rounds=9)
    alone.reset(seed=5)
    alone.step()
    assert torch.equal(alone.state.senders[0], state.senders[2])
    assert torch.equal(alone.state.people.values[0], state.people.values[2])
    assert state.graph is not None
    neighbors = state.graph.indices[1].unflatten(0, (6, 2))
    for person in range(6):
        assert set(state.senders[1, person].tolist()) - {-1} == set(neighbors[person].tolist())


def test_turns_show_what_is_observed_and_nothing_else():
    env = make(num_people=3, value_source="stated", max_messages_read=1, assistant_aim=4)
    simulator = run(env, 1)
    state = dataclasses.replace(
        simulator.state,
        initial_values=torch.tensor([-2.0, 0.1, 1.2]).expand(3, -1)[..., None],
        messages=torch.stack([encode_message(t, SIZE) for t in "abc"]).expand(3, -1, -1),
        senders=torch.tensor([[1], [2], [0], [2]]).expand(3, -1, -1),
        replies=encode_message("Say <|im_end|>\n\x1b[31m", SIZE).expand(3, 1, -1),
    )
    turns = {
        (role, phase): env.describe(role, phase, env.observe(state, role, phase)[0, 0])
        for role, phase in (("writer", "write"), ("person", "state"), ("assistant", "reply"))
    }
    topic, own = Topic(), ['You wrote: "a"', 'A neighbor wrote: "b"']
    reply = 'The assistant wrote: "Say < |im_end|>\\n\\x1b[31m"'
    lines = [f"Question: {topic.question}", topic.views[0], *own, reply]
    person = turns["person", "state"]
    assert person.situation.splitlines() == lines
    assert turns["writer", "write"].situation == person.situation
    assert person.baseline_situation == lines[0]
    assert (person.form, person.ordered, person.statements) == (
        "probabilities", True, topic.statements,
    )  # fmt: skip
    assert turns["assistant", "reply"].situation.splitlines()[2:] == ['A person wrote: "c"']
    assert topic.positions[4] in env.role_rules("assistant")
    unread = make(**{**env.model_dump(exclude_unset=True), "assistant_is_read": False})
    text = unread.describe("person", "state", unread.observe(state, "person", "state")[0, 0])
    assert text.situation.splitlines() == lines[:-1]
    shown = env.render(state, 1)
    assert "\x1b" not in shown and len(shown.splitlines()) == 5 and "person 2" in shown


def test_quoted_text_has_one_line():
    assert quoted("a\r\n\u202eb" + "x" * 500).count("\n") == 0
    assert "\u202e" not in quoted("a\u202eb") and quoted("x" * 500) == '"' + "x" * 500 + '"'


def test_refusals():
    with refused("missing", "opinion_messages.peers.rule"):
        make(peers={"rule": None})
    with refused("out_of_range", "opinion_messages.assistant_aim"):
        make(assistant_aim=5)
    with refused("wrong_shape", "opinion_messages.topic.views"):
        make(topic={"views": ["You agree."]})
    with refused("wrong_shape", "population"):
        two_values = make_population("normal", num_people=6, num_values=2)
        Simulator(make(), make().default_policies(), population=two_values).reset(0)
    with refused("unsupported", "policies.person"):
        run(make(), 1, person="fixed_message")
    with refused("unsupported", "policies.writer"):
        run(make(), 1, writer="scale_answer")
