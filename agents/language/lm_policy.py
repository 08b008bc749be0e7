"""Multi-turn rollouts of a causal language model: tokens, loss masks and log-probabilities.

A *dialogue* is the sequence of observations and replies of one agent in one episode: first
observation, reply, next observation, reply, ... It is stored as one prompt and one completion. The
`mask` of the completion is 1 for generated tokens and 0 for tokens of observations.

In a discrete action space the reply is *closed*: a legal option is sampled from q = p / Z, where p
is the model's probability of the option's label and Z the sum of p over the labels of all legal
options (`closed_choice`). A trainer increases log p of replies with positive advantages, instead of
log q. The two differ by log Z. With advantages of mean zero (as in GRPO) the expected effect of log
Z on the gradient is zero in episodes of one turn; in longer episodes training also raises Z in
states with high returns. Free replies are sampled token by token from p itself.

All randomness comes from uniform numbers that the caller passes: one per closed reply, or one per
token of a free reply.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mores.agents.language.causal_lm import (
    NO_TOKEN,
    eval_mode,
    forward_logits,
    forward_next,
    max_context_length,
)
from mores.agents.language.closed_choice import inverse_cdf_sample, token_log_probabilities
from mores.agents.language.prompting import Prompter
from mores.agents.language.tokenization import PromptTokenizer, Tokens
from mores.core.environment import Phase, Role
from mores.core.errors import UserError
from mores.core.spaces import Box, Discrete
from mores.core.turn_text import parse_probabilities, unparsed_action

# Uniform numbers in [0, 1), by name of the stream and number of draws per dialogue.
UniformFunction = Callable[[str, int], Float[Tensor, "dialogue draw"]]


@dataclasses.dataclass(frozen=True)
class DialoguePolicy:
    """Converter of observations to text, and of a language model's replies to actions.

    Args:
        prompter: formats prompts and parses replies.
        closed_choice: whether discrete actions are sampled by the probabilities of their labels;
            else replies are generated freely and parsed.
        max_new_tokens: largest number of tokens of a free reply.
        batch_size: number of texts per forward pass.
    """

    prompter: Prompter = dataclasses.field(default_factory=Prompter)
    closed_choice: bool = True
    max_new_tokens: int = 16
    batch_size: int = 256

    def check(self, phases: Sequence[Phase], role: Role) -> None:
        """Check that the prompter fits the environment.

        Raises:
            UserError: the prompter describes phases or options that do not exist.
        """
        self.prompter.check(phases, role)

    def start_dialogues(
        self,
        model: nn.Module,
        tokenizer: Any,
        role: Role,
        num_dialogues: int,
        temperature: float = 1.0,
    ) -> DialogueBatch:
        """A batch of empty dialogues.

        Args:
            model: causal language model of the library transformers.
            tokenizer: its tokenizer.
            role: role of the model in all of them.
            num_dialogues: number of dialogues.
            temperature: sampling temperature.

        Raises:
            UserError: the tokenizer has no end-of-sequence token.
        """
        generation = getattr(model, "generation_config", None)
        eos = getattr(generation, "eos_token_id", None)
        eos_ids = [] if eos is None else [eos] if isinstance(eos, int) else eos
        return DialogueBatch(
            self,
            model,
            PromptTokenizer(tokenizer, tuple(eos_ids)),
            role,
            num_dialogues,
            temperature,
        )


class DialogueBatch:
    """Batch of parallel dialogues of one language model.

    Attributes:
        prompts: tokens of the opening and the first observation, by dialogue.
        completions: all later tokens, by dialogue.
        masks: 1 for tokens that the model generated, 0 for tokens of observations.
        logps: log-probabilities of generated tokens; 0 for tokens of observations.
        unparsed: number of invalid replies, by dialogue.
    """

    def __init__(
        self,
        policy: DialoguePolicy,
        model: nn.Module,
        tokenizer: PromptTokenizer,
        role: Role,
        num_dialogues: int,
        temperature: float,
    ) -> None:
        self.policy, self.model, self.tokenizer, self.role = policy, model, tokenizer, role
        self.temperature = temperature
        self.prompts: list[Tokens] = [[] for _ in range(num_dialogues)]
        self.completions: list[Tokens] = [[] for _ in range(num_dialogues)]
        self.masks: list[list[int]] = [[] for _ in range(num_dialogues)]
        self.logps: list[list[float]] = [[] for _ in range(num_dialogues)]
        self.unparsed = [0] * num_dialogues

    def act(
        self,
        phase: Phase,
        observation: Float[Tensor, "dialogue size"],
        action_mask: Bool[Tensor, "dialogue option"] | None,
        active: Bool[Tensor, " dialogue"],
        uniforms: UniformFunction,
    ) -> Tensor:
        """Append the observations and the model's replies, and return the actions.

        Args:
            phase: phase of the turn.
            observation: observation of each agent.
            action_mask: legal options of each agent; `None`: all.
            active: dialogues that continue; the others stay unchanged.
            uniforms: uniform numbers by stream name, for all dialogues.

        Returns:
            Actions `[dialogue]` or `[dialogue, size]`; an invalid reply gives an action outside the
            space (`unparsed_action`).

        Raises:
            UserError: a dialogue is longer than the model's context.
        """
        prompter, space = self.policy.prompter, phase.action_spaces[self.role.name]
        masks = [None] * len(observation) if action_mask is None else list(action_mask.cpu())
        dialogues = active.nonzero()[:, 0].tolist()
        for i in dialogues:
            text = prompter.describe(self.role, phase, observation[i].cpu(), masks[i])
            self._append_observation(i, text)
        actions = [unparsed_action(space)] * len(observation)
        with torch.no_grad(), eval_mode(self.model):
            if self.policy.closed_choice and isinstance(space, Discrete):
                labels = prompter.option_labels(space)
                chosen = self._closed_replies(dialogues, labels, masks, uniforms("reply", 1)[:, 0])
                for i, option in zip(dialogues, chosen, strict=True):
                    actions[i] = torch.tensor(option)
            else:
                for i, reply in zip(
                    dialogues, self._free_replies(dialogues, uniforms), strict=True
                ):
                    action = self._parse(phase, observation[i].cpu(), masks[i], reply)
                    self.unparsed[i] += action is None
                    actions[i] = unparsed_action(space) if action is None else action
        return torch.stack(actions)

    def _parse(
        self, phase: Phase, observation: Tensor, action_mask: Tensor | None, reply: str
    ) -> Tensor | None:
        """The action that a free reply states; `None`: it states none."""
        prompter, space = self.policy.prompter, phase.action_spaces[self.role.name]
        if isinstance(space, Box):
            turn = prompter.turn(self.role, phase, observation, action_mask)
            if turn.form == "probabilities":
                return parse_probabilities(space, reply, len(turn.options))
        return prompter.parse_reply(self.role, phase, reply, action_mask)

    def _append_observation(self, dialogue: int, text: str) -> None:
        """Append the tokens of an observation."""
        if self.prompts[dialogue]:
            self._append(dialogue, self.tokenizer.encode_user_turn(text))
        else:
            opening = self.policy.prompter.opening(self.role)
            self.prompts[dialogue] = self.tokenizer.encode_opening(f"{opening}\n{text}")

    def _append(self, dialogue: int, tokens: Tokens, logps: Sequence[float] | None = None) -> None:
        """Append tokens of an observation, or of a reply if `logps` is given."""
        self.completions[dialogue] += tokens
        self.masks[dialogue] += [0 if logps is None else 1] * len(tokens)
        self.logps[dialogue] += [0.0] * len(tokens) if logps is None else logps

    # --- closed replies ------------------------------------------------------------------------

    def _closed_replies(
        self,
        dialogues: Sequence[int],
        labels: Sequence[str],
        action_mask: Sequence[Tensor | None],
        uniform: Float[Tensor, " dialogue"],
    ) -> list[int]:
        """Sampled option of each dialogue, by the model's probabilities of the labels."""
        replies = [self.tokenizer.encode_reply(label) for label in labels]
        all_options = list(range(len(labels)))
        legal_options = [
            all_options if (mask := action_mask[i]) is None else mask.nonzero()[:, 0].tolist()
            for i in dialogues
        ]
        candidates = [
            (i, replies[option])
            for i, options in zip(dialogues, legal_options, strict=True)
            for option in options
        ]
        scores = self._reply_logps(candidates).tolist()
        chosen = []
        for i, options in zip(dialogues, legal_options, strict=True):
            logps, scores = scores[: len(options)], scores[len(options) :]
            index = inverse_cdf_sample(torch.tensor(logps, dtype=torch.float64), float(uniform[i]))
            option = options[index]
            token_logps = token_log_probabilities([replies[o] for o in options], logps, index)
            self._append(i, replies[option], token_logps)
            chosen.append(option)
        return chosen

    def _reply_logps(self, replies: Sequence[tuple[int, Tokens]]) -> Float[Tensor, " text"]:
        """Log-probability of each reply as the continuation of its dialogue."""
        totals = []
        for start in range(0, len(replies), self.policy.batch_size):
            batch = replies[start : start + self.policy.batch_size]
            texts = [[*self._tokens(i), *reply] for i, reply in batch]
            longest = max(len(reply) for _, reply in batch)
            tokens = self._left_pad(texts)
            logits = forward_logits(self.model, tokens, longest + 1)[0][:, -(longest + 1) : -1]
            logps = (logits.float() / self.temperature).log_softmax(-1)
            token_logps = logps.gather(-1, tokens[:, -longest:, None])[..., 0]
            position = torch.arange(longest, device=token_logps.device)
            lengths = torch.tensor([len(reply) for _, reply in batch], device=token_logps.device)
            in_reply = position >= longest - lengths[:, None]
            totals.append(torch.where(in_reply, token_logps, 0.0).sum(-1).cpu().double())
        return torch.cat(totals)

    # --- free replies --------------------------------------------------------------------------

    def _free_replies(self, dialogues: Sequence[int], uniforms: UniformFunction) -> list[str]:
        """Replies sampled token by token, up to the end token or `max_new_tokens`."""
        uniform = uniforms("token", self.policy.max_new_tokens)
        replies: list[str] = []
        for start in range(0, len(dialogues), self.policy.batch_size):
            batch = dialogues[start : start + self.policy.batch_size]
            replies += self._sample_replies(batch, uniform[list(batch)])
        return replies

    def _sample_replies(
        self, dialogues: Sequence[int], uniform: Float[Tensor, "text position"]
    ) -> list[str]:
        """Sampled replies of one batch of dialogues."""
        replies: list[Tokens] = [[] for _ in dialogues]
        logps: list[list[float]] = [[] for _ in dialogues]
        context, cache = self._left_pad([self._tokens(i) for i in dialogues]), None
        for position in range(uniform.shape[1]):
            logits, cache = forward_next(self.model, context, cache)
            rows = (logits.float() / self.temperature).log_softmax(-1).cpu().double()
            tokens = [
                inverse_cdf_sample(row, float(u))
                for row, u in zip(rows, uniform[:, position], strict=True)
            ]
            for i, token in enumerate(tokens):
                if not self.tokenizer.is_complete(replies[i]):
                    replies[i].append(token)
                    logps[i].append(float(rows[i, token]))
            if all(map(self.tokenizer.is_complete, replies)):
                break
            context = torch.cat([context, torch.tensor(tokens, device=context.device)[:, None]], 1)
        for i, reply, reply_logps in zip(dialogues, replies, logps, strict=True):
            self._append(i, reply, reply_logps)
            if not self.tokenizer.is_complete(reply):  # truncated: the appended end has mask 0
                self._append(i, self.tokenizer.encode_reply("")[-1:])
        return [self.tokenizer.decode_reply(reply) for reply in replies]

    # --- the model -----------------------------------------------------------------------------

    def _tokens(self, dialogue: int) -> Tokens:
        return [*self.prompts[dialogue], *self.completions[dialogue]]

    def _left_pad(self, texts: list[Tokens]) -> Int[Tensor, "text position"]:
        """Tensor of token sequences, padded on the left to equal lengths.

        Raises:
            UserError: a sequence is longer than the model's context.
        """
        width, limit = max(map(len, texts)), max_context_length(self.model)
        if limit is not None and width > limit:
            raise UserError(
                f"a dialogue has {width} tokens, and the model's context {limit}: simulate fewer "
                "rounds, or use shorter prompts",
                code="too_large",
                path="rounds",
            )
        tokens = torch.full((len(texts), width), NO_TOKEN, dtype=torch.int64)
        for row, text in enumerate(texts):
            tokens[row, width - len(text) :] = torch.tensor(text)
        return tokens.to(next(self.model.parameters()).device)
