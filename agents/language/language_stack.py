"""A language model with stacked adapters as an architecture of learners.

Recipes of `mores.agents.learning` train it like any network: an observation goes in, the
log-probabilities of the options come out. In between, the observation becomes a conversation
(`LanguagePolicy.ask`), and the readout turns scores of texts into

    log q(o | observation),  normalized over the legal options.

q is the distribution that actions are drawn from (at `temperature` T it is q^(1/T), normalized), so
the objective is optimized exactly: nothing is lost or added by the probability Z that the model
would, if it wrote freely, answer with any of the texts at all. Z is not trained, and may fall.
(Trainers of whole texts, as TRL's, raise log p = log q + log Z of the replies instead: see
`mores.agents.language.lm_policy`.)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mores.agents.language.adapters import LoRA, StackedLoRA
from mores.agents.language.gradient_engine import GradientEngine
from mores.agents.language.kept_states import KeptStates, shared_kept_states
from mores.agents.language.language_model import LanguageModel
from mores.agents.language.readouts.readout import Asked, Readout
from mores.agents.learning.action_distributions import MASKED_LOGIT
from mores.agents.learning.batch import ModelOutput
from mores.agents.learning.model_stack import ModelInputs, ModelStack, Parameters
from mores.core.environment import Phase, Role
from mores.core.errors import UserError
from mores.core.random_streams import RandomStreams
from mores.core.spaces import Discrete


@dataclasses.dataclass(frozen=True)
class LanguageEncoder:
    """What cannot change while adapters are trained: the base model, and their size and place."""

    model: LanguageModel
    adapters: LoRA


@dataclasses.dataclass(frozen=True)
class LanguageStack(ModelStack):
    """Architecture of P adapters of a language model.

    Attributes:
        encoder: a `LanguageEncoder`.
        observation_size: length of an observation with the memory.
        action_spaces: action space of each phase in which the model learns.
        reader: the language learner: it writes conversations, and has the readout.
        role: the role.
        phases: phases by name.
    """

    reader: Any
    role: Role
    phases: Mapping[str, Phase]

    @property
    def base_model(self) -> Any:
        """The model of transformers, loaded at the first use."""
        return self.encoder.model.engine().model

    @property
    def num_parameters(self) -> int:
        """Number of parameters of an adapter."""
        return self.encoder.adapters.num_parameters(self.base_model)

    def init_parameters(
        self, streams: RandomStreams, models_per_replicate: int
    ) -> dict[str, Tensor]:
        """Initial adapters of each replicate."""
        lora: LoRA = self.encoder.adapters
        return lora.init_parameters(self.base_model, streams, models_per_replicate)

    def adapters(self, parameters: Parameters) -> StackedLoRA:
        """The adapters with these parameters."""
        return StackedLoRA(self.base_model, self.encoder.adapters, parameters)

    @property
    def kept_states(self) -> KeptStates | None:
        """States of the layers below the adapters, if the policy keeps them."""
        layers = self.encoder.adapters.layers
        if not self.reader.keep_states or layers is None:
            return None
        return shared_kept_states(self.base_model, layers)

    def evaluate_actions(self, parameters: Parameters, inputs: ModelInputs) -> ModelOutput:
        """Log-probabilities and entropies of choices. The model sees each distinct prompt once."""
        logits = self.option_logits(
            parameters, inputs.phase, inputs.observation, inputs.action_mask, inputs.valid
        )
        actions = self.action_distributions[inputs.phase].log_probs(
            logits, inputs.action, inputs.action_mask
        )
        return ModelOutput(actions.logp, actions.logits, actions.entropy)

    def forward_step(
        self,
        parameters: Parameters,
        phase: str,
        observation: Float[Tensor, "model sample size"],
        recurrent_state: Float[Tensor, "model sample recurrent"],
    ) -> tuple[Float[Tensor, "model sample raw"], None, Tensor]:
        """Log-probabilities of options where all are legal."""
        logits = self.option_logits(parameters, phase, observation[:, :, None], None, None)
        return logits[:, :, 0], None, recurrent_state

    def hidden_features(
        self, parameters: Parameters, observation: Float[Tensor, "model sample size"]
    ) -> Float[Tensor, "model sample feature"]:
        """Not available.

        Raises:
            UserError: always.
        """
        raise UserError(
            "a language model has no features of observations", code="unsupported", path="policies"
        )

    def predict_values(
        self,
        parameters: Parameters,
        observation: Float[Tensor, "model sample size"],
        recurrent_state: Float[Tensor, "model sample recurrent"],
    ) -> Float[Tensor, "model sample"]:
        """Not available.

        Raises:
            UserError: always.
        """
        raise UserError("a language model has no value head", code="unsupported", path="policies")

    def option_logits(
        self,
        parameters: Parameters,
        phase: str,
        observation: Float[Tensor, "model sample step size"],
        action_mask: Bool[Tensor, "model sample step option"] | None,
        valid: Bool[Tensor, "model sample step"] | None,
    ) -> Float[Tensor, "model sample step option"]:
        """log q of each option at the policy's temperature; 0 at steps that are not valid."""
        space = self.action_spaces[phase]
        assert isinstance(space, Discrete)
        lead = observation.shape[:3]
        is_valid = torch.ones(lead, dtype=torch.bool) if valid is None else valid.cpu()
        positions = is_valid.flatten().nonzero()[:, 0].tolist()
        observations = observation.flatten(0, 2).cpu()
        masks = None if action_mask is None else action_mask.flatten(0, 2).cpu()
        per_model = lead[1] * lead[2]
        asked_by_key: dict[tuple[int, bytes, bytes], Asked] = {}
        numbers: dict[Asked, int] = {}  # row of the table of each distinct question
        row_of = torch.zeros(observations.shape[0], dtype=torch.int64)
        for position in positions:
            mask = None if masks is None else masks[position]
            key = (
                position // per_model,
                observations[position].numpy().tobytes(),
                b"" if mask is None else mask.numpy().tobytes(),
            )
            if key not in asked_by_key:
                asked_by_key[key] = self._asked(phase, observations[position], mask, key[0])
            # Row 0 is for steps that are not valid.
            row_of[position] = 1 + numbers.setdefault(asked_by_key[key], len(numbers))
        table = torch.zeros(1, space.num_options, device=observation.device)
        if numbers:
            found = self._read(parameters, phase, list(numbers)).to(table)
            table = torch.cat([table, found])
        return table.index_select(0, row_of.to(table.device)).unflatten(0, lead)

    def _asked(
        self, phase: str, observation: Float[Tensor, " size"], mask: Tensor | None, model: int
    ) -> Asked:
        """The question of one agent, with its adapter."""
        asked = self.reader.ask_again(self.phases[phase], observation, mask, self.role)
        return dataclasses.replace(asked, adapter=model)

    def _read(
        self, parameters: Parameters, phase: str, asked: Sequence[Asked]
    ) -> Float[Tensor, "question option"]:
        """log q of the options of each question, as the readout reads it."""
        engine = self.encoder.model.engine()
        gradient_engine = GradientEngine(
            engine, self.adapters(parameters), self.reader.gradient_rows, self.kept_states
        )
        space, temperature = self.action_spaces[phase], self.reader.temperature
        requests, readouts = [], list[Readout]()
        for each in asked:
            readouts.append(self.reader.readout_for(each.turn, space, engine))
            requests.append(readouts[-1].requests(each) if len(each.legal) > 1 else [])
        unique = list(dict.fromkeys(request for own in requests for request in own))
        scores = dict(zip(unique, gradient_engine.score(unique), strict=True)) if unique else {}
        found = []
        for each, readout, own in zip(asked, readouts, requests, strict=True):
            if own:
                logps = readout.read(each, [scores[request] for request in own])
            else:  # a single legal option
                logps = torch.full((len(each.turn.options),), -torch.inf, dtype=torch.float64)
                logps[list(each.legal)] = 0.0
            found.append(logps)
        table = torch.stack(found)
        if temperature != 1.0:
            table = (table / temperature).log_softmax(-1)
        return torch.where(table > -torch.inf, table, MASKED_LOGIT)
