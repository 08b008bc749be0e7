"""Every registered channel, and one of a user's own: types, purity, independence, addresses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
import torch

import mores
from mores import registry
from mores.core import stream_numbers
from mores.core.channel import TYPES, Channel, give_feedback
from mores.core.random_streams import RandomStreams
from mores.envs.feedback.pairwise_preferences import PairwisePreferences
from mores.registry.plugins import load_plugins
from mores.sim.episode_recorder import EpisodeRecorder
from mores.sim.simulation import simulate
from mores.sim.simulator import Simulator
from tests.refusals import refused

HOW_TO = Path(__file__).parents[2] / "docs/how-to/channels.md"
SIZES = {"agent": 6, "judge": 3, "option": 2, "step": 4, "token": 5, "principal": 2}
ADDRESSES = {  # frozen: texts of random streams, in the scope of the field's owner
    "best_option": set(),
    "binary_critique": {"/judgement"},
    "boltzmann_choice": {"/choice", "/other", "/flip"},
    "bradley_terry": {"/preference", "/annotator", "/error"},
    "demonstration": {"/principal", "/demonstration", "/slip", "/other word"},
    "noisy_rating": {"/rating"},
    "token_critique": {"/judgement"},
    "stars": {"/channel/field/noise"},
}
PARAMETERS = {
    "boltzmann_choice": {"rationality": 2.0, "flip_probability": 0.3},
    "bradley_terry": {"annotator_error_rates": (0.1, 0.4)},
    "noisy_rating": {"noise_std": 0.5},
}


@pytest.fixture(scope="module", autouse=True)
def users_channel(tmp_path_factory) -> Iterator[None]:
    """The channel of the how-to, loaded as by `--load stars.py`."""
    code = re.search(r"```python file=stars.py\n(.*?)^```$", HOW_TO.read_text(), re.S | re.M)
    assert code is not None
    assert len(code[1].strip().splitlines()) <= 25
    file = tmp_path_factory.mktemp("user") / "stars.py"
    file.write_text(code[1])
    load_plugins([file])
    yield
    del registry.REGISTRIES["channel"]["stars"]


def make_channel(kind: str) -> Channel:
    return registry.make("channel", kind, PARAMETERS.get(kind, {}))


def latent(worlds: int, **sizes: int) -> dict[str, torch.Tensor]:
    """Random values of every latent quantity."""
    generator, known = torch.Generator().manual_seed(1), {"world": worlds, **SIZES, **sizes}
    found = {}
    for name in ("utility", "token_value", "inappropriate"):
        shape = [known[dimension] for dimension in TYPES[name].dim_str.split()]
        found[name] = torch.randn(*shape, generator=generator)
    found["inappropriate"] = found["inappropriate"] > 0
    shape = (worlds, known["agent"], known["step"])
    tokens = torch.randint(known["token"], shape, generator=generator)
    found["completion"] = torch.nn.functional.one_hot(tokens, known["token"]).float()
    return found


@pytest.mark.parametrize("kind", ADDRESSES)
def test_types_purity_independence_and_addresses(kind: str) -> None:
    channel, inputs = make_channel(kind), latent(3)
    copies = {name: value.clone() for name, value in inputs.items()}
    addresses = set()

    def recorded(address: str) -> tuple[int, int]:
        addresses.add(address)
        return stream_id(address)

    stream_id = stream_numbers.stream_id
    with mock.patch.object(stream_numbers, "stream_id", recorded):
        given = give_feedback(channel, "field", inputs, RandomStreams.of(0, 3))
    assert addresses == ADDRESSES[kind]
    assert given.keys() == {*channel.outputs, *channel.latent_outputs}
    if "preferred" in given:
        assert (given["preferred"].sum(-1) == 1).all()
    assert all(torch.equal(inputs[name], copy) for name, copy in copies.items())
    alone = {name: value[1:2] for name, value in inputs.items()}
    again = give_feedback(channel, "field", alone, RandomStreams.of(0, [1]))
    assert all(torch.equal(again[name], value[1:2]) for name, value in given.items())
    expected = channel.expected({name: inputs[name] for name in channel.inputs})
    assert expected.keys() <= set(channel.outputs)
    if expected:
        repeated = {n: v[:1].expand(4000, *v.shape[1:]) for n, v in inputs.items()}
        many = give_feedback(channel, "field", repeated, RandomStreams.of(1, 4000))
        for name, mean in expected.items():
            values = many[name].double()
            error = values.std(0) / 4000**0.5
            assert ((values.mean(0) - mean[0]).abs() <= 4.5 * error + 1e-6).all(), name


def test_every_channel_is_tested_and_unavailable_options_are_not_chosen() -> None:
    assert set(registry.package_kinds("channel")) | {"stars"} == ADDRESSES.keys()
    utility = torch.zeros(2, 3000, 2)
    utility[..., 1] = -torch.inf
    for kind in ("boltzmann_choice", "bradley_terry", "best_option"):
        channel = make_channel(kind)
        given = give_feedback(channel, "choice", {"utility": utility}, RandomStreams.of(0, 2))
        expected = channel.expected({"utility": utility})["preferred"]
        assert given["preferred"][..., 0].all() and (expected[..., 0] == 1).all(), kind


def test_a_users_channel_in_both_environments() -> None:
    rating = {"kind": "stars", "leniency": 1.0, "noise_std": 0.0}
    environment = mores.make_environment("token_feedback", rating=rating, num_completions=4)
    recorder = EpisodeRecorder(["assistant"])
    policies = dict(environment.default_policies())
    simulator = Simulator(environment, policies, {}, 5, 6, recorder=recorder)
    simulator.reset(0)
    while not simulator.all_finished:
        simulator.step()
    dataset = recorder.dataset("assistant")
    leniency = torch.tensor([1.0, 1.0, -1.0, -1.0])
    assert dataset.reward is not None
    exact = (3 + dataset.reward.sum(1) + leniency).clamp(1, 5)
    torch.testing.assert_close(dataset.feedback["reward"][:, 0, :, 0], exact)
    person = mores.make_policy("annotator", rating={**rating, "scale_use": 0.5})
    pairs = PairwisePreferences(num_people=4, collect_ratings=True, margins=(1.0,))
    result = simulate(pairs, {"person": person}, 2, 3, 0, metrics=["rating_slope"])
    assert result.metrics["rating_slope"].values[:, -1] == pytest.approx(0.5, abs=1e-5)
    assert "rating_slope" not in pairs.analytic_values({"person": person}, 3)


class Wrong(Channel):
    """A rating with mistakes."""

    inputs, outputs = ("utility",), ("reward",)
    mistake: str

    def feedback(self, inputs, streams):
        utility = inputs["utility"]
        mistakes = {
            "shape": {"reward": utility[..., 0]},
            "dtype": {"reward": utility > 0},
            "type": {"reward": 1.0},
            "name": {"rating": utility},
            "extra": {"reward": utility, "seen": utility},
        }
        return mistakes[self.mistake]


@pytest.mark.parametrize(
    ("mistake", "code", "path"),
    [
        ("shape", "wrong_shape", "rating.reward"),
        ("dtype", "wrong_type", "rating.reward"),
        ("type", "wrong_type", "rating.reward"),
        ("name", "missing", "rating"),
        ("extra", "unknown_name", "rating"),
    ],
)
def test_mistakes_in_a_users_channel_are_refused(mistake: str, code: str, path: str) -> None:
    environment = mores.make_environment("token_feedback", rating=Wrong(mistake=mistake))
    with refused(code, path):
        simulate(environment, rounds=6)


class ReadsMore(Wrong):
    """Reads what an annotator does not know."""

    inputs = ("completion",)


class OneName(Wrong):
    """Declares a text in place of a tuple."""

    outputs = "reward"  # type: ignore[assignment]


def test_channels_that_do_not_fit_a_field_are_refused() -> None:
    for channel, code in ((ReadsMore, "unsupported"), (OneName, "wrong_type")):
        with refused(code, "annotator.rating"):
            mores.make_policy("annotator", rating=channel(mistake=""))
    with refused("unsupported", "annotator.choice"):
        mores.make_policy("annotator", choice="noisy_rating")
    with refused("unsupported", "choice"):  # bradley_terry, and three options
        channel, utility = make_channel("bradley_terry"), torch.zeros(1, 1, 3)
        give_feedback(channel, "choice", {"utility": utility}, RandomStreams.of(0, 1))
