"""Scores of given replies with the states of lower layers kept, for adapters in upper layers.

If adapters change only the upper layers of a model, the states that enter these layers depend on
the tokens alone. Of a closed set of prompts and replies they are computed once; an update of the
adapters computes the upper layers. The sequences are kept as a tree: a token that follows the same
tokens in several sequences is one node, computed once in a pass. All nodes of a model in a pass
stand in one row, and a node attends to the nodes on its path from the root:

    kept      h_v        state of node v after the lower layers         [node, size]
    computed  H(v)       upper layers on h, attention to ancestors of v
    result    log p(y | x) = Σ_j log softmax(W H(parent of y_j))[y_j]

This equals the ordinary forward pass (`closed_replies.closed_reply_logps`) to rounding: adapters
act at all positions of the upper layers, in the prompt as well, as those of PEFT do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mores.agents.language.adapters import BASE_MODEL, StackedLoRA
from mores.agents.language.causal_lm import max_context_length
from mores.core.errors import UserError

Tokens = Sequence[int]
ROOT = -1  # parent of first tokens


class KeptStates:
    """States of a model's lower layers for the sequences that were asked for.

    Args:
        model: causal, of transformers, with the layout of Llama; its parameters must not change.
        layers: number of upper layers that adapters may change and that every call computes.
        max_bytes: limit of the kept states; a call beyond it drops what it does not need itself.
        max_nodes: tokens of a model in one pass; attention takes memory with their square.

    Raises:
        UserError: the model has another layout or fewer layers.
    """

    def __init__(
        self, model: nn.Module, layers: int, *, max_bytes: int = 2**29, max_nodes: int = 512
    ) -> None:
        whole: Any = model
        decoder: Any = getattr(model, "model", None)
        parts = ("embed_tokens", "layers", "norm", "rotary_emb")
        if not all(hasattr(decoder, part) for part in parts) or not hasattr(model, "lm_head"):
            raise UserError(
                f"states of {type(model).__name__} cannot be kept: it has not the layout of Llama",
                code="unsupported",
                path="model",
            )
        if not 1 <= layers <= len(decoder.layers):
            raise UserError(
                f"layers: the model has {len(decoder.layers)}, not {layers}",
                code="out_of_range",
                path="layers",
            )
        self.model, self.layers = model, layers
        self.max_bytes, self.max_nodes = max_bytes, max_nodes
        self._decoder, self._head = decoder, whole.lm_head
        self._first = len(decoder.layers) - layers
        self._clear()

    def _clear(self) -> None:
        self._children: dict[tuple[int, int], int] = {}  # by parent and token
        self._parent: list[int] = []
        self._token: list[int] = []
        self._depth: list[int] = []
        self._states = torch.empty(0)  # node size
        self._paths: dict[tuple[int, ...], list[int]] = {}
        self._base_logps: dict[tuple[tuple[int, ...], tuple[int, ...]], float] = {}

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
        """See `closed_replies.closed_reply_logps`; scores of the base model are kept as well.

        Gradients flow to `adapters.parameters`, and to nothing else.

        Raises:
            UserError: an adapter changes a lower layer; a sequence is too long.
        """
        self._check(adapters, prompts, replies)
        pairs = [(tuple(p), tuple(r)) for p, r in zip(prompts, replies, strict=True)]
        models = self._models(adapters, model_index)
        self._keep([(*prompt, *reply[:-1]) for prompt, reply in pairs])
        result: list[Tensor | None] = [None] * len(pairs)
        by_model: dict[int, list[int]] = {}
        for index, (model, pair) in enumerate(zip(models, pairs, strict=True)):
            if model == BASE_MODEL and pair in self._base_logps:
                result[index] = self._states.new_tensor(self._base_logps[pair])
            else:
                by_model.setdefault(model, []).append(index)
        for model, indices in by_model.items():
            for group in self._groups([pairs[index] for index in indices]):
                members = [indices[each] for each in group]
                chosen = [pairs[index] for index in members]
                if model == BASE_MODEL:
                    with torch.no_grad():
                        logps = self._logps(chosen)
                    self._base_logps.update(zip(chosen, logps.tolist(), strict=True))
                else:
                    assert adapters is not None
                    rows = torch.tensor([model], device=self._device)
                    with adapters.active(rows):
                        logps = self._logps(chosen)
                for index, logp in zip(members, logps.unbind(), strict=True):
                    result[index] = logp
        return torch.stack([logp for logp in result if logp is not None])

    def _models(
        self, adapters: StackedLoRA | None, model_index: Int[Tensor, " reply"]
    ) -> list[int]:
        """Adapter of each reply; the base model in place of one that changes nothing yet.

        Every adapter begins so, and the scores of all of them are then those of the base model.
        """
        if adapters is None:
            return [BASE_MODEL] * len(model_index)
        models: list[int] = model_index.tolist()
        parameters = adapters.parameters
        if torch.is_grad_enabled() and any(x.requires_grad for x in parameters.values()):
            return models
        changes = torch.zeros(adapters.num_adapters, dtype=torch.bool, device=self._device)
        for name, value in parameters.items():
            if name.endswith(".lora_B"):
                changes |= (value != 0).flatten(1).any(1)
        changed = changes.tolist()
        return [m if m != BASE_MODEL and changed[m] else BASE_MODEL for m in models]

    @property
    def _device(self) -> torch.device:
        return self._head.weight.device

    def _check(
        self, adapters: StackedLoRA | None, prompts: Sequence[Tokens], replies: Sequence[Tokens]
    ) -> None:
        if not len(prompts) == len(replies) or not all(map(len, [*prompts, *replies])):
            raise UserError(
                "as many prompts as replies, each with at least one token",
                code="wrong_shape",
                path="replies",
            )
        if adapters is not None and (adapters.config.layers or 10**9) > self.layers:
            raise UserError(
                f"states are kept below the upper {self.layers} layers: adapters in them alone, "
                f"not in {adapters.config.layers or 'all'}",
                code="conflict",
                path="layers",
            )
        longest = max(len(p) + len(r) for p, r in zip(prompts, replies, strict=True))
        limit = min(max_context_length(self.model) or self.max_nodes, self.max_nodes)
        if longest > limit:
            raise UserError(
                f"a prompt with its reply has {longest} tokens; at most {limit}",
                code="too_large",
                path="prompts",
            )

    # --- the tree ---------------------------------------------------------------------------------

    def _keep(self, sequences: Sequence[tuple[int, ...]]) -> None:
        """Add the nodes of sequences that are missing, with their states."""
        missing = [each for each in dict.fromkeys(sequences) if each not in self._paths]
        if not missing:
            return
        size = self._decoder.config.hidden_size * self._head.weight.element_size()
        if self.num_bytes + size * sum(map(len, missing)) > self.max_bytes and self._paths:
            self._clear()
            missing = list(dict.fromkeys(sequences))
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
        states = torch.empty(
            self.num_nodes - first_new,
            self._decoder.config.hidden_size,
            dtype=self._head.weight.dtype,
            device=self._device,
        )
        with torch.no_grad():
            for group in self._groups_of_paths([self._paths[each] for each in missing]):
                nodes = sorted({node for index in group for node in self._paths[missing[index]]})
                tokens = torch.tensor([[self._token[node] for node in nodes]], device=self._device)
                hidden = self._run(self._decoder.embed_tokens(tokens), nodes, range(self._first))
                new = [(row, node) for row, node in enumerate(nodes) if node >= first_new]
                for row, node in new:
                    states[node - first_new] = hidden[0, row]
        self._states = torch.cat([self._states.to(states), states]) if first_new else states

    def _groups(self, pairs: Sequence[tuple[tuple[int, ...], tuple[int, ...]]]) -> list[list[int]]:
        """Indices of pairs that one pass computes."""
        return self._groups_of_paths([self._paths[(*p, *r[:-1])] for p, r in pairs])

    def _groups_of_paths(self, paths: Sequence[list[int]]) -> list[list[int]]:
        """Indices of paths, in their order, with at most `max_nodes` nodes a group."""
        groups, nodes = list[list[int]](), set[int]()
        for index, path in enumerate(paths):
            union = nodes | set(path)
            if not groups or len(union) > self.max_nodes:
                groups.append([])
                union = set(path)
            groups[-1].append(index)
            nodes = union
        return groups

    # --- passes -----------------------------------------------------------------------------------

    def _run(
        self, hidden: Float[Tensor, "1 node size"], nodes: Sequence[int], layers: range
    ) -> Float[Tensor, "1 node size"]:
        """States after some of the layers. Nodes are sorted: a parent comes before its children."""
        mask = torch.zeros(1, 1, len(nodes), len(nodes), dtype=hidden.dtype, device=hidden.device)
        mask = mask.masked_fill(~self._is_ancestor(nodes).to(hidden.device), float("-inf"))
        positions = torch.tensor([[self._depth[node] for node in nodes]], device=hidden.device)
        rotation = self._decoder.rotary_emb(hidden, position_ids=positions)
        for number in layers:
            hidden = self._decoder.layers[number](
                hidden,
                attention_mask=mask,
                position_ids=positions,
                position_embeddings=rotation,
            )
        return hidden

    def _is_ancestor(self, nodes: Sequence[int]) -> Bool[Tensor, "node node"]:
        """Whether a node (row) attends to another (column): those on its path, and itself."""
        row_of = {node: row for row, node in enumerate(nodes)}
        attends = torch.eye(len(nodes), dtype=torch.bool).numpy()
        for row, node in enumerate(nodes):
            parent = self._parent[node]
            if parent != ROOT:
                attends[row] |= attends[row_of[parent]]
        return torch.from_numpy(attends)

    def _logps(
        self, pairs: Sequence[tuple[tuple[int, ...], tuple[int, ...]]]
    ) -> Float[Tensor, " reply"]:
        """Log-probability of each reply, under the adapters that are active."""
        paths = [self._paths[(*prompt, *reply[:-1])] for prompt, reply in pairs]
        nodes = sorted({node for path in paths for node in path})
        row_of = {node: row for row, node in enumerate(nodes)}
        hidden = self._run(
            self._states[nodes][None], nodes, range(self._first, self._first + self.layers)
        )
        # Replies with a common beginning are predicted from the same node.
        predicted = [
            row_of[path[len(prompt) - 1 + step]]
            for (prompt, reply), path in zip(pairs, paths, strict=True)
            for step in range(len(reply))
        ]
        rows, index = torch.tensor(predicted).unique(return_inverse=True)
        states = self._decoder.norm(hidden[0, rows.to(hidden.device)])
        logits = self._head(states).float()
        tokens = torch.tensor([token for _, reply in pairs for token in reply])
        index, tokens = index.to(logits.device), tokens.to(logits.device)
        token_logps = logits[index, tokens] - logits.logsumexp(-1)[index]
        lengths = [len(reply) for _, reply in pairs]
        return torch.stack([part.sum() for part in token_logps.split(lengths)])
