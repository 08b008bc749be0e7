"""What a causal language model says of a batch of tokens, and what its reference says.

With x the prompt and y the completion, step t is the token y_t, and

    log π(y_t | x, y_<t) = log softmax(logits / temperature)[y_t]

over the whole vocabulary, in 32 bits whatever the model computes in. The layout of tokens is that
of `layout`. A language model is one policy, P = 1. The reference of a model with adapters is the
model without them, as in TRL; of any other, a frozen copy (`reference.make_reference`).
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mores.agents.language.token_layout import NOTHING
from mores.agents.learning.batch import FeedbackBatch, Output
from mores.core.errors import UserError

Head = Callable[[Tensor], Tensor]  # `[..., size]` to `[..., output]`


def output_of(
    model: nn.Module,
    batch: FeedbackBatch,
    *,
    temperature: float = 1.0,
    entropy: bool = True,
    hidden: bool = False,
    value_head: Head | None = None,
    score_head: Head | None = None,
) -> Output:
    """What the model says of a batch in the layout of `layout`.

    Args:
        model: causal, of transformers; with or without adapters.
        batch: of one policy. `legal` closes tokens that are not open.
        temperature: logits are divided by it.
        entropy: whether to work out each step's entropy, `[1, sample, step]` in nats. It takes as
            much memory again as the logits.
        hidden: whether to give the last layer's state at each sample's last token.
        value_head: makes `value`, from the state from which a token is predicted: one number.
        score_head: makes `score`, from the state at each sample's last token.

    Raises:
        UserError: the batch is not in that layout, or is longer than the model can read.
    """
    _check(model, batch, temperature)
    states = hidden or value_head is not None or score_head is not None
    steps, seen = batch.steps, batch.seen[0]
    raw, last_layer = read(model, seen, steps + 1, states)
    # The last token predicts nothing that is in the batch.
    scores = raw[:, -(steps + 1) : -1].float() / temperature  # sample step option
    if batch.legal is not None:
        scores = scores.masked_fill(~batch.legal[0], float("-inf"))
    logits = scores.log_softmax(-1)[None]
    logp = logits.gather(-1, batch.acted[..., None])[..., 0]
    value = score = embedding = None
    if last_layer is not None:
        if value_head is not None:
            value = value_head(last_layer[:, -(steps + 1) : -1]).float()[None, ..., 0]
        at_end = _at_end(last_layer, seen)
        embedding = at_end[None] if hidden else None
        score = None if score_head is None else score_head(at_end).float()[None]
    spread = _entropy(logits, batch.legal) if entropy else None
    return Output(logp, logits, spread, value, score, embedding)


def reference_of(
    model: nn.Module, batch: FeedbackBatch, frozen: nn.Module | None = None, **settings: Any
) -> Output:
    """What the reference says, without gradients.

    Args:
        model: the one that learns; where nothing is frozen, it has adapters, which are left out.
        batch: as for `output_of`.
        frozen: the reference, where it is a model of its own.
        **settings: of `output_of`.

    Raises:
        UserError: there is neither a frozen model nor are there adapters.
    """
    settings = {"entropy": False, **settings}
    if frozen is not None:
        with torch.no_grad(), evaluating(frozen):
            return output_of(frozen, batch, **settings)
    inner = unwrapped(model)
    if not hasattr(inner, "disable_adapter"):
        raise UserError(
            "a model without adapters needs a frozen reference: make_reference(model), before "
            "training begins",
            code="missing",
            path="frozen",
        )
    with torch.no_grad(), evaluating(inner), inner.disable_adapter():
        return output_of(inner, batch, **settings)


def with_reference(
    model: nn.Module,
    batch: FeedbackBatch,
    frozen: nn.Module | None = None,
    *,
    logits: bool = False,
    **settings: Any,
) -> FeedbackBatch:
    """The batch with `reference_logp`, and with `reference_logits` if `logits` says so.

    The other arguments are those of `reference_of`.
    """
    said = reference_of(model, batch, frozen, **settings)
    batch = batch.replace(reference_logp=said.logp)
    return batch.replace(reference_logits=said.logits) if logits else batch


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model without dropout, and afterwards as it was."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def unwrapped(model: nn.Module) -> Any:
    """The model without what distributes it over devices."""
    inner: Any = model
    while isinstance(getattr(inner, "module", None), nn.Module):
        inner = inner.module
    return inner


def longest(model: nn.Module) -> int | None:
    """How many tokens the model can read, if it says so."""
    return getattr(getattr(unwrapped(model), "config", None), "max_position_embeddings", None)


def _check(model: nn.Module, batch: FeedbackBatch, temperature: float) -> None:
    if batch.policies != 1:
        raise UserError(
            f"a language model is one policy, and the batch has {batch.policies}",
            code="wrong_shape",
            path="batch",
        )
    if batch.seen.dim() != 3 or batch.seen.is_floating_point():
        code = "wrong_type" if batch.seen.is_floating_point() else "wrong_shape"
        message = f"`seen` is tokens [1, sample, place], not {tuple(batch.seen.shape)}"
        raise UserError(message, code=code, path="seen")
    if batch.seen.shape[-1] <= batch.steps:
        raise UserError(
            "`seen` begins with a prompt: it is longer than there are steps",
            code="wrong_shape",
            path="seen",
        )
    if temperature <= 0:
        raise UserError(
            f"temperature is above 0, not {temperature}", code="out_of_range", path="temperature"
        )
    most, width = longest(model), batch.seen.shape[-1]
    if most is not None and width > most:
        raise UserError(
            f"a batch {width} tokens wide, and the model reads {most} at most",
            code="too_large",
            path="seen",
        )


def read(
    model: nn.Module, seen: Int[Tensor, "sample place"], keep: int, states: bool = False
) -> tuple[Float[Tensor, "sample kept option"], Float[Tensor, "sample place size"] | None]:
    """Raw logits, of the last `keep` places at least, and the last layer's states if asked for."""
    known = _parameters_of(model)
    asked: dict[str, Any] = {"use_cache": False}
    if "logits_to_keep" in known:
        asked["logits_to_keep"] = keep
    if states:
        asked["output_hidden_states"] = True
    said = model(**_inputs(seen, known), **asked)
    return said.logits, said.hidden_states[-1].float() if states else None


def read_on(
    model: nn.Module, seen: Int[Tensor, "sample place"], cache: Any
) -> tuple[Float[Tensor, "sample option"], Any]:
    """Raw logits of what comes next, and a cache for when one token was appended to each.

    Args:
        model: causal, of transformers.
        seen: tokens that end at the same place.
        cache: of the call before, when all but the last token was read; `None` at first.
    """
    known = _parameters_of(model)
    inputs = _inputs(seen, known)
    kept = "cache" if "cache" in known else "past_key_values"  # renamed in transformers 5
    if cache is not None:
        inputs = {n: x if n == "attention_mask" else x[:, -1:] for n, x in inputs.items()}
        inputs[kept] = cache
    if "logits_to_keep" in known:
        inputs["logits_to_keep"] = 1
    said = model(**inputs, use_cache=True)
    return said.logits[:, -1], getattr(said, kept, None)


def _inputs(seen: Int[Tensor, "sample place"], known: frozenset[str]) -> dict[str, Any]:
    """Arguments of the model that say what it reads."""
    real = (seen != NOTHING).long()
    inputs = {"input_ids": torch.where(seen == NOTHING, 0, seen), "attention_mask": real}
    if "position_ids" in known:
        inputs["position_ids"] = (real.cumsum(-1) - 1).clamp(min=0)
    return inputs


def _parameters_of(model: nn.Module) -> frozenset[str]:
    """Names that the model's own forward takes: not all models know of positions."""
    inner = unwrapped(model)
    if hasattr(inner, "get_base_model"):
        inner = inner.get_base_model()
    return frozenset(inspect.signature(inner.forward).parameters)


def _at_end(
    states: Float[Tensor, "sample place size"], seen: Int[Tensor, "sample place"]
) -> Float[Tensor, "sample size"]:
    """States at the last token of each sample."""
    places = torch.arange(seen.shape[-1], device=seen.device)
    last = torch.where(seen == NOTHING, -1, places).amax(-1)
    return states[torch.arange(len(seen), device=seen.device), last]


def _entropy(
    logits: Float[Tensor, "policy sample step option"], legal: Tensor | None
) -> Float[Tensor, "policy sample step"]:
    """-Σ p log p; closed options add nothing, also not to the gradient."""
    if legal is not None:
        logits = torch.where(legal, logits, 0.0)
        return -(torch.where(legal, logits.exp(), 0.0) * logits).sum(-1)
    return -(logits.exp() * logits).sum(-1)
