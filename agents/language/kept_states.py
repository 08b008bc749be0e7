"""Scores of given replies with the states of lower layers kept, for adapters in upper layers.

If adapters change only the upper layers of a model, the states that enter these layers depend on
the tokens alone. Of a closed set of prompts and replies they are computed once; an update of the
adapters computes the upper layers. The sequences are kept as a prefix tree (trie): a token that
follows the same tokens in several sequences is one node, and a node attends to the nodes on its
path from the root:

    kept      h_v        state of node v after the lower layers         [node, size]
    computed  H(v)       upper layers and final norm on h, attention to the path of v
    result    log p(y | x) = Σ_j log softmax(W H(parent of y_j))[y_j]

A batch has rows of nodes, each of one adapter. Sequences of an adapter with more than `max_nodes`
nodes together are divided among several rows; each row computes the prefixes that they share.

This equals the uncached forward pass (`closed_replies.closed_reply_logps`) to rounding: adapters
act at all positions of the upper layers, in the prompt as well, as those of PEFT do. A model whose
forward pass does more than its layers, final norm and output layer is refused
(`kept_states_check`).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mores.agents.language.adapters import BASE_MODEL, StackedLoRA
from mores.agents.language.causal_lm import max_context_length
from mores.agents.language.kept_states_check import check_kept_states
from mores.core.errors import UserError

Tokens = Sequence[int]
TokenSequence = tuple[int, ...]
Pair = tuple[TokenSequence, TokenSequence]  # a prompt and a reply
ROOT = -1  # parent of first tokens


class _Row(NamedTuple):
    """Replies of one adapter that a row of a batch computes, with the nodes of their sequences."""

    model: int
    pairs: list[Pair]
    nodes: list[int]


class KeptStates:
    """States of a model's lower layers for the sequences that were scored.

    Log-probabilities equal those of an uncached forward pass to rounding: they differ by at most
    3e-5 nats in 32 bits with SmolLM2-135M. Rounding depends on the sequences that are computed
    together. A kept state has the floating-point values of the call that added it; if several
    groups of sequences of that call share the node, those of the last one. Therefore:

    - The order of replies in a call changes no floating-point value.
    - The same calls in the same order have equal values in every process of a machine with the same
      libraries and number of threads.
    - A call repeated with the same adapters, unchanged since, has the values of its first time,
      unless other adapters were scored between, or states were dropped at `max_bytes` or by
      `clear`.
    - With other calls before it the values of a call may differ by rounding: in a process that ran
      other cells, and in one that resumed a run. Measured with SmolLM2-135M, one reply a call
      against all in one: 4e-5 nats at most.

    Args:
        model: causal, of transformers, with the layout of Llama, in the mode `eval`; its parameters
            must not change.
        layers: number of upper layers, which adapters may change. They are computed for every score
            that is not stored.
        max_bytes: a call with which the kept states would be larger drops those of earlier calls.
            Its own are kept, whatever their size.
        max_nodes: most nodes in a row, and most tokens of a prompt with its reply; attention takes
            memory with their square.
        max_elements: most numbers in the states of a batch of several rows.

    Raises:
        UserError: the model has fewer layers, or another layout or forward pass than Llama
            (`kept_states_check`).
    """

    def __init__(
        self,
        model: nn.Module,
        layers: int,
        *,
        max_bytes: int = 2**29,
        max_nodes: int = 512,
        max_elements: int = 2**20,
    ) -> None:
        whole: Any = model
        decoder: Any = getattr(model, "model", None)
        parts = ("embed_tokens", "layers", "norm", "rotary_emb")
        if not all(hasattr(decoder, part) for part in parts) or not hasattr(model, "lm_head"):
            raise UserError(
                f"keep_states: {type(model).__name__} has not the layout of Llama: leave "
                "keep_states out",
                code="unsupported",
                path="keep_states",
            )
        if not 1 <= layers <= len(decoder.layers):
            raise UserError(
                f"layers: the model has {len(decoder.layers)}, not {layers}",
                code="out_of_range",
                path="layers",
            )
        self.model, self.layers = model, layers
        self.max_bytes, self.max_nodes, self.max_elements = max_bytes, max_nodes, max_elements
        self._decoder, self._head = decoder, whole.lm_head
        self._size: int = decoder.config.hidden_size
        self._first = len(decoder.layers) - layers
        self.clear()
        check_kept_states(model, self.max_length, self._scores_for_check)

    def _scores_for_check(
        self, prompts: Sequence[Tokens], replies: Sequence[Tokens]
    ) -> Float[Tensor, " reply"]:
        """Scores for the check: rows are as long as the longest sequence, so that some are padded.

        Nothing of them is kept.
        """
        max_nodes, index = self.max_nodes, torch.zeros(len(prompts), dtype=torch.int64)
        self.max_nodes = max(len(p) + len(r) for p, r in zip(prompts, replies, strict=True))
        try:
            return self.closed_reply_logps(None, prompts, replies, index)
        finally:
            self.max_nodes = max_nodes
            self.clear()

    def clear(self) -> None:
        """Drop all kept states and scores."""
        self._children: dict[tuple[int, int], int] = {}  # by parent and token
        self._parent: list[int] = []
        self._token: list[int] = []
        self._depth: list[int] = []
        self._states = torch.empty(0, self._size)  # node size
        self._paths: dict[TokenSequence, list[int]] = {}
        self._base_logps: dict[Pair, float] = {}
        self._revision = 0  # of the adapters whose scores are in `_logps_of_revision`
        self._logps_of_revision: dict[tuple[int, Pair], float] = {}

    @property
    def max_length(self) -> int:
        """Largest number of tokens of a prompt with its reply."""
        return min(max_context_length(self.model) or self.max_nodes, self.max_nodes)

    @property
    def num_nodes(self) -> int:
        """Number of kept nodes."""
        return len(self._parent)

    @property
    def num_bytes(self) -> int:
        """Size of the kept states."""
        return self._states.numel() * self._states.element_size()

    def closed_reply_logps(
        self,
        adapters: StackedLoRA | None,
        prompts: Sequence[Tokens],
        replies: Sequence[Tokens],
        model_index: Int[Tensor, " reply"],
    ) -> Float[Tensor, " reply"]:
        """See `closed_replies.closed_reply_logps`.

        Gradients flow to `adapters.parameters`, and to nothing else. Scores of the base model are
        stored; those of adapters, if no gradient is needed, until an adapter changes.

        Raises:
            UserError: an adapter changes a lower layer; a sequence is too long.
        """
        self._check_inputs(adapters, prompts, replies)
        pairs = [(tuple(p), tuple(r)) for p, r in zip(prompts, replies, strict=True)]
        self._add_sequences([(*prompt, *reply[:-1]) for prompt, reply in pairs])
        models = [BASE_MODEL] * len(pairs)
        needs_grad = False
        if adapters is not None:
            parameters = adapters.parameters.values()
            needs_grad = torch.is_grad_enabled() and any(x.requires_grad for x in parameters)
            models = self._models(adapters, model_index.tolist(), needs_grad)
            if adapters.revision != self._revision:
                self._revision, self._logps_of_revision = adapters.revision, {}
        keys = list(zip(models, pairs, strict=True))
        base = [pair for model, pair in dict.fromkeys(keys) if model == BASE_MODEL]
        self._score_base([pair for pair in base if pair not in self._base_logps])
        own = [key for key in dict.fromkeys(keys) if key[0] != BASE_MODEL]
        if not needs_grad:
            missing = [key for key in own if key not in self._logps_of_revision]
            with torch.no_grad():
                logps = self._score(adapters, missing)
            self._logps_of_revision.update(zip(missing, logps.tolist(), strict=True))
            found = {(BASE_MODEL, pair): self._base_logps[pair] for pair in base}
            found |= {key: self._logps_of_revision[key] for key in own}
            return torch.tensor([found[key] for key in keys], device=self._device)
        known = torch.tensor([self._base_logps[pair] for pair in base], device=self._device)
        position = {(BASE_MODEL, pair): index for index, pair in enumerate(base)}
        position |= {key: len(base) + index for index, key in enumerate(own)}
        both = torch.cat([known, self._score(adapters, own)])
        return both[[position[key] for key in keys]]

    @property
    def _device(self) -> torch.device:
        return self._head.weight.device

    def _models(self, adapters: StackedLoRA, models: list[int], needs_grad: bool) -> list[int]:
        """Adapter of each reply; the base model in place of one that changes nothing yet.

        Every adapter begins so, and the scores of all of them are then those of the base model.
        """
        if needs_grad:
            return models
        changes = torch.zeros(adapters.num_adapters, dtype=torch.bool, device=self._device)
        for name, value in adapters.parameters.items():
            if name.endswith(".lora_B"):
                changes |= (value != 0).flatten(1).any(1)
        changed = changes.tolist()
        return [m if m != BASE_MODEL and changed[m] else BASE_MODEL for m in models]

    def _check_inputs(
        self, adapters: StackedLoRA | None, prompts: Sequence[Tokens], replies: Sequence[Tokens]
    ) -> None:
        if not len(prompts) == len(replies) or not all(map(len, [*prompts, *replies])):
            raise UserError(
                "as many prompts as replies, each with at least one token",
                code="wrong_shape",
                path="replies",
            )
        num_layers = len(self._decoder.layers)
        if adapters is not None and (adapters.config.layers or num_layers) > self.layers:
            raise UserError(
                f"states are kept below the upper {self.layers} layers: adapters in them alone, "
                f"not in {adapters.config.layers or num_layers}",
                code="conflict",
                path="layers",
            )
        longest = max(len(p) + len(r) for p, r in zip(prompts, replies, strict=True))
        if longest > self.max_length:
            raise UserError(
                f"a prompt with its reply has {longest} tokens; at most {self.max_length} with "
                "kept states",
                code="too_large",
                path="prompts",
            )

    # --- prefix tree ------------------------------------------------------------------------------

    def _add_sequences(self, sequences: Sequence[TokenSequence]) -> None:
        """Add the nodes of sequences that are missing, with their states."""
        missing = [each for each in sorted(set(sequences)) if each not in self._paths]
        if not missing:
            return
        bytes_per_node = self._size * self._head.weight.element_size()
        if self.num_bytes + bytes_per_node * sum(map(len, missing)) > self.max_bytes:
            self.clear()
            missing = sorted(set(sequences))
        first_new = self.num_nodes
        for sequence in missing:
            node, path = ROOT, []
            for depth, token in enumerate(sequence):
                child = self._children.get((node, token))
                if child is None:
                    child = self._children[node, token] = len(self._parent)
                    self._parent.append(node)
                    self._token.append(token)
                    self._depth.append(depth)
                path.append(child)
                node = child
            self._paths[sequence] = path
        old = self._states.to(self._head.weight)
        states = torch.cat([old, old.new_empty(self.num_nodes - first_new, self._size)])
        embed = self._decoder.embed_tokens
        with torch.no_grad():
            for group in self._groups(missing):
                nodes = self._ordered_nodes(group)
                tokens = torch.tensor([[self._token[node] for node in nodes]], device=self._device)
                hidden = self._apply_layers(embed(tokens), [nodes], range(self._first))[0]
                is_new = [row for row, node in enumerate(nodes) if node >= first_new]
                states[[nodes[row] for row in is_new]] = hidden[is_new]
        self._states = states

    def _ordered_nodes(self, sequences: Sequence[TokenSequence]) -> list[int]:
        """Nodes of sequences: a parent before its children, in an order by tokens.

        Rounding depends on the order; the order does not depend on earlier calls.
        """
        ordered = sorted(set(sequences))
        return list(dict.fromkeys(node for each in ordered for node in self._paths[each]))

    def _groups(self, sequences: Sequence[TokenSequence]) -> Iterator[list[TokenSequence]]:
        """Sequences in their order, in groups with at most `max_nodes` nodes."""
        group, nodes = list[TokenSequence](), set[int]()
        for sequence in sequences:
            path = self._paths[sequence]
            if group and len(nodes) + sum(node not in nodes for node in path) > self.max_nodes:
                yield group
                group, nodes = [], set()
            group.append(sequence)
            nodes.update(path)
        if group:
            yield group

    # --- scores -----------------------------------------------------------------------------------

    def _score_base(self, pairs: Sequence[Pair]) -> None:
        """Scores of the base model, kept."""
        with torch.no_grad():
            logps = self._score(None, [(BASE_MODEL, pair) for pair in pairs])
        self._base_logps.update(zip(pairs, logps.tolist(), strict=True))

    def _score(
        self, adapters: StackedLoRA | None, keys: Sequence[tuple[int, Pair]]
    ) -> Float[Tensor, " reply"]:
        """Log-probability of each reply under its adapter, in as many batches as needed."""
        if not keys:
            return torch.empty(0, device=self._device)
        rows, order = list[_Row](), list[tuple[int, Pair]]()
        by_model: dict[int, dict[TokenSequence, list[Pair]]] = {}
        for model, (prompt, reply) in sorted(keys):
            sequence = (*prompt, *reply[:-1])
            by_model.setdefault(model, {}).setdefault(sequence, []).append((prompt, reply))
        for model, by_sequence in by_model.items():
            for group in self._groups(list(by_sequence)):
                pairs = [pair for sequence in group for pair in by_sequence[sequence]]
                rows.append(_Row(model, pairs, self._ordered_nodes(group)))
                order += [(model, pair) for pair in pairs]
        logps = torch.cat([self._score_batch(adapters, each) for each in self._batches(rows)])
        position = {key: index for index, key in enumerate(order)}
        return logps[[position[key] for key in keys]]

    def _batches(self, rows: Sequence[_Row]) -> Iterator[list[_Row]]:
        """Rows in their order, in batches of one row or at most `max_elements` numbers."""
        chosen, longest = list[_Row](), 0
        for row in rows:
            width = max(longest, len(row.nodes))
            if chosen and (len(chosen) + 1) * width * self._size > self.max_elements:
                yield chosen
                chosen, width = [], len(row.nodes)
            chosen.append(row)
            longest = width
        yield chosen

    def _score_batch(
        self, adapters: StackedLoRA | None, rows: Sequence[_Row]
    ) -> Float[Tensor, " reply"]:
        """Log-probability of each reply of a batch of rows."""
        width = max(len(row.nodes) for row in rows)
        padded = torch.tensor(
            [row.nodes + row.nodes[-1:] * (width - len(row.nodes)) for row in rows]
        )
        hidden = self._states[padded.to(self._states.device)]
        layers = range(self._first, self._first + self.layers)
        nodes = [row.nodes for row in rows]
        if adapters is None:
            hidden = self._apply_layers(hidden, nodes, layers)
        else:
            models = torch.tensor([row.model for row in rows], device=self._device)
            with adapters.active(models):
                hidden = self._apply_layers(hidden, nodes, layers)
        # Replies with a common beginning are predicted from the same node.
        predicted, tokens, lengths = list[int](), list[int](), list[int]()
        for number, row in enumerate(rows):
            column = {node: number * width + index for index, node in enumerate(row.nodes)}
            for prompt, reply in row.pairs:
                path = self._paths[(*prompt, *reply[:-1])]
                predicted += [column[node] for node in path[len(prompt) - 1 :]]
                tokens += reply
                lengths.append(len(reply))
        distinct, index = np.unique(predicted, return_inverse=True)
        states = hidden.flatten(0, 1)[torch.from_numpy(distinct).to(hidden.device)]
        logits = self._head(self._decoder.norm(states)).float()
        index = torch.from_numpy(index.reshape(-1)).to(logits.device)
        chosen = logits[index, torch.tensor(tokens, device=logits.device)]
        token_logps = chosen - logits.logsumexp(-1)[index]
        reply_of = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
        total = torch.zeros(len(lengths), device=logits.device)
        return total.index_add(0, reply_of.to(logits.device), token_logps)

    def _apply_layers(
        self, hidden: Float[Tensor, "row node size"], nodes: Sequence[list[int]], layers: range
    ) -> Float[Tensor, "row node size"]:
        """States after some of the layers; nodes are in the order of `_ordered_nodes`."""
        width = hidden.shape[1]
        attends = np.zeros((len(nodes), 1, width, width), dtype=bool)
        # Every node, and padding, attends to itself; `_mark_paths` adds the ancestors of nodes.
        attends[:, 0, range(width), range(width)] = True
        depths = np.zeros((len(nodes), width), dtype=np.int64)
        for number, own in enumerate(nodes):
            self._mark_paths(attends[number, 0], own)
            depths[number, : len(own)] = [self._depth[node] for node in own]
        visible = torch.from_numpy(attends).to(hidden.device)
        mask = torch.zeros(visible.shape, dtype=hidden.dtype, device=hidden.device)
        mask = mask.masked_fill(~visible, float("-inf"))
        positions = torch.from_numpy(depths).to(hidden.device)
        rotation = self._decoder.rotary_emb(hidden, position_ids=positions)
        for number in layers:
            hidden = self._decoder.layers[number](
                hidden,
                attention_mask=mask,
                position_ids=positions,
                position_embeddings=rotation,
            )
        return hidden

    def _mark_paths(self, attends: np.ndarray, nodes: Sequence[int]) -> None:
        """Add to each node (row) its ancestors (columns); it attends to itself already."""
        row_of = {node: row for row, node in enumerate(nodes)}
        for row, node in enumerate(nodes):
            if self._parent[node] != ROOT:
                attends[row] |= attends[row_of[self._parent[node]]]


@functools.lru_cache(maxsize=4)
def shared_kept_states(model: nn.Module, layers: int) -> KeptStates:
    """Kept states of a model, shared by all callers in this process.

    It holds those of four pairs of a model and a number of layers; a fifth pair discards the least
    recently used.
    """
    return KeptStates(model, layers)
