"""Many policies of one make, learning side by side: what they see, what they may do, who they are.

A `Stack` is the make: a body, a head for every phase in which the role acts, a value head, heads
that score whole answers. It holds no numbers: parameters are a dict of tensors that lead with the
policy, made by `first` and handed to everything else.

A body that remembers does so phase by phase: in each it knows what it saw in that phase before, so
that what a phase says can be asked about later without the others.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mores.agents.learning.action_distributions import Head, Said
from mores.agents.learning.batch import Output
from mores.agents.learning.networks.encoders import Body
from mores.agents.learning.networks.layers import Layer, Parameters, first_weights, linear
from mores.core.environment import Box, Space
from mores.core.random_streams import Draws


@dataclasses.dataclass(frozen=True)
class Asked:
    """What a stack is asked about: stretches of acts in one phase.

    Attributes:
        phase: in which they act.
        seen: sights before each act.
        acted: what was done, in units of the head.
        legal: open options.
        begins: steps that begin an episode; `None`: each stretch is within one.
        carry: what was remembered before each stretch; `None`: nothing.
        real: steps that count where a stretch is summed up; `None`: all.
    """

    phase: str
    seen: Float[Tensor, "policy sample step size"]
    acted: Tensor
    legal: Bool[Tensor, "policy sample step option"] | None = None
    begins: Bool[Tensor, "policy sample step"] | None = None
    carry: Float[Tensor, "policy sample memory"] | None = None
    real: Bool[Tensor, "policy sample step"] | None = None

    def mean(
        self, x: Float[Tensor, "policy sample step size"]
    ) -> Float[Tensor, "policy sample size"]:
        """Mean over the real steps of each stretch."""
        if self.real is None:
            return x.mean(2)
        counts = self.real.sum(-1, keepdim=True).clamp(min=1)
        return torch.where(self.real[..., None], x, 0.0).sum(2) / counts


@dataclasses.dataclass(frozen=True)
class Stack:
    """A make of policies.

    Attributes:
        body: what is made of a sight.
        sees: length of a sight.
        spaces: what may be done, by phase.
        value: whether a second body of the same kind says what reward is to be expected.
        scores: how many numbers a whole answer is scored by (a reward model); 0: none.
        first_std: standard deviation of a box's numbers at first, in half widths.
    """

    body: Body
    sees: int
    spaces: Mapping[str, Space]
    value: bool = False
    scores: int = 0
    first_std: float = 0.5

    @functools.cached_property
    def heads(self) -> Mapping[str, Head]:
        """How the raw output of each phase is read."""
        return {phase: Head(space) for phase, space in self.spaces.items()}

    @property
    def carry_size(self) -> int:
        """How many numbers a sample remembers of its episode, of all bodies in all phases."""
        return self._carry_size * len(self.spaces)

    @property
    def _carry_size(self) -> int:
        """The same in one phase."""
        return self.body.carry_size(self.sees) * (2 if self.value else 1)

    @functools.cached_property
    def layers(self) -> Mapping[str, Layer]:
        """All layers of a policy, by name."""
        width = self.body.width or self.sees
        layers = dict(self.body.layers("policy", self.sees))
        for phase, head in self.heads.items():
            layers[f"act.{phase}"] = Layer(width, head.raw, 0.01)
        if self.value:
            layers |= self.body.layers("critic", self.sees)
            layers["value"] = Layer(width, 1, 1.0)
        if self.scores:
            layers["score"] = Layer(width, self.scores, 1.0)
        return layers

    @property
    def size(self) -> int:
        """How many parameters a policy has in its layers."""
        return sum((one.inputs + one.bias) * one.outputs for one in self.layers.values())

    def first(self, draws: Draws, each: int) -> dict[str, Tensor]:
        """Parameters to begin with, of `each` policies a replicate; see `first_weights`."""
        policies = draws.worlds * each
        made = first_weights(self.layers, draws, each)
        for prefix in ("policy", "critic") if self.value else ("policy",):
            others = self.body.others(prefix, policies)
            made |= {name: tensor.to(draws.device) for name, tensor in others.items()}
        for phase, space in self.spaces.items():
            if isinstance(space, Box):
                std = torch.full((policies, 1, space.size), self.first_std, device=draws.device)
                made[f"act.{phase}.log_std"] = std.log()
        return made

    def begin(self, policies: int, samples: int, device: torch.device) -> Tensor:
        """What is remembered at an episode's beginning: nothing, `[policy, sample, memory]`."""
        return torch.zeros(policies, samples, self.carry_size, device=device)

    def act(
        self,
        parameters: Parameters,
        phase: str,
        seen: Float[Tensor, "policy sample size"],
        carry: Float[Tensor, "policy sample memory"],
    ) -> tuple[Float[Tensor, "policy sample raw"], Float[Tensor, "policy sample"] | None, Tensor]:
        """Raw output of the phase's head, the value if there is one, what is remembered then."""
        mine, theirs = self._carries(carry, phase)
        features, mine = self.body.step(parameters, "policy", seen, mine)
        raw = linear(parameters, f"act.{phase}", features)
        value = None
        if self.value:
            features, theirs = self.body.step(parameters, "critic", seen, theirs)
            value = linear(parameters, "value", features)[..., 0]
        return raw, value, self._carried(carry, phase, mine, theirs)

    def values(
        self,
        parameters: Parameters,
        seen: Float[Tensor, "policy sample size"],
        carry: Float[Tensor, "policy sample memory"],
    ) -> Float[Tensor, "policy sample"]:
        """What is expected of a sight in the first phase, without acting on it.

        It may be the one after an episode's last: bodies are asked in a way that has no end.
        """
        _, theirs = self._carries(carry, next(iter(self.spaces)))
        features = self.body.whole(parameters, "critic", seen[:, :, None], None, theirs)[:, :, 0]
        return linear(parameters, "value", features)[..., 0]

    def log_std(self, parameters: Parameters, phase: str) -> Tensor | None:
        """Spread of a box's numbers, `[policy, 1, size]`; `None` for choices."""
        return parameters.get(f"act.{phase}.log_std")

    def ask(self, parameters: Parameters, asked: Asked) -> Output:
        """What the policies say of stretches of acts: all that loss terms see."""
        mine = theirs = None
        if asked.carry is not None:
            mine, theirs = self._carries(asked.carry, asked.phase)
        features = self.body.whole(parameters, "policy", asked.seen, asked.begins, mine)
        said = self._said(parameters, asked, features)
        value = score = summary = None
        if self.value:
            seen = self.body.whole(parameters, "critic", asked.seen, asked.begins, theirs)
            value = linear(parameters, "value", seen.flatten(1, 2)).view(asked.seen.shape[:3])
        if self.scores:
            summary = asked.mean(features)
            score = linear(parameters, "score", summary)
        return Output(said.logp, said.logits, said.entropy, value, score, summary)

    def _said(self, parameters: Parameters, asked: Asked, features: Tensor) -> Said:
        shape = asked.seen.shape[:3]
        raw = linear(parameters, f"act.{asked.phase}", features.flatten(1, 2)).unflatten(
            1, shape[1:]
        )
        log_std = self.log_std(parameters, asked.phase)
        if log_std is not None:
            log_std = log_std[:, :, None]  # policy sample step size
        return self.heads[asked.phase].likelihood(raw, asked.acted, asked.legal, log_std)

    def _carries(self, carry: Tensor, phase: str) -> tuple[Tensor, Tensor]:
        """What the policy's and the critic's body remember of a phase."""
        first = self._carry_size * list(self.spaces).index(phase)
        size = self.body.carry_size(self.sees)
        return carry[..., first : first + size], carry[..., first + size : first + self._carry_size]

    def _carried(self, carry: Tensor, phase: str, mine: Tensor, theirs: Tensor) -> Tensor:
        """All that is remembered, with what is remembered of a phase now."""
        if not self._carry_size:
            return carry
        first = self._carry_size * list(self.spaces).index(phase)
        before, after = carry[..., :first], carry[..., first + self._carry_size :]
        return torch.cat([before, mine, theirs, after], -1)
