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

from mores.agents.language.token_layout import NO_TOKEN
from mores.agents.learning.batch import FeedbackBatch, ModelOutput
from mores.core.errors import UserError

HeadFunction = Callable[[Tensor], Tensor]  # `[..., size]` to `[..., output]`


def lm_output(
    model: nn.Module,
    batch: FeedbackBatch,
    *,
    temperature: float = 1.0,
    compute_entropy: bool = True,
    compute_embedding: bool = False,
    value_head: HeadFunction | None = None,
    score_head: HeadFunction | None = None,
) -> ModelOutput:
    """What the model says of a batch in the layout of `layout`.

    Args:
        model: causal, of transformers; with or without adapters.
        batch: of one policy. `legal` closes tokens that are not open.
        temperature: logits are divided by it.
        compute_entropy: whether to work out each step's entropy, `[1, sample, step]` in nats. It takes as
            much memory again as the logits.
        compute_embedding: whether to give the last layer's state at each sample's last token.
        value_head: makes `value`, from the state from which a token is predicted: one number.
        score_head: makes `score`, from the state at each sample's last token.

    Raises:
        UserError: the batch is not in that layout, or is longer than the model can read.
    """
    _check(model, batch, temperature)
    states = compute_embedding or value_head is not None or score_head is not None
    steps, seen = batch.num_steps, batch.observation[0]
    raw, last_layer = forward_logits(model, seen, steps + 1, states)
    # The last token predicts nothing that is in the batch.
    scores = raw[:, -(steps + 1) : -1].float() / temperature  # sample step option
    if batch.action_mask is not None:
        scores = scores.masked_fill(~batch.action_mask[0], float("-inf"))
    logits = scores.log_softmax(-1)[None]
    logp = logits.gather(-1, batch.action[..., None])[..., 0]
    value = score = embedding = None
    if last_layer is not None:
        if value_head is not None:
            value = value_head(last_layer[:, -(steps + 1) : -1]).float()[None, ..., 0]
        at_end = _last_token_states(last_layer, seen)
        embedding = at_end[None] if compute_embedding else None
        score = None if score_head is None else score_head(at_end).float()[None]
    spread = _entropy(logits, batch.action_mask) if compute_entropy else None
    return ModelOutput(logp, logits, spread, value, score, embedding)


def reference_output(
    model: nn.Module,
    batch: FeedbackBatch,
    reference_model: nn.Module | None = None,
    **output_kwargs: Any,
) -> ModelOutput:
    """What the reference says, without gradients.

    Args:
        model: the one that learns; where nothing is frozen, it has adapters, which are left out.
        batch: as for `lm_output`.
        reference_model: the reference, where it is a model of its own.
        **output_kwargs: of `lm_output`.

    Raises:
        UserError: there is neither a frozen model nor are there adapters.
    """
    output_kwargs = {"entropy": False, **output_kwargs}
    if reference_model is not None:
        with torch.no_grad(), eval_mode(reference_model):
            return lm_output(reference_model, batch, **output_kwargs)
    inner = unwrap_model(model)
    if not hasattr(inner, "disable_adapter"):
        raise UserError(
            "a model without adapters needs a frozen reference: make_reference(model), before "
            "training begins",
            code="missing",
            path="frozen",
        )
    with torch.no_grad(), eval_mode(inner), inner.disable_adapter():
        return lm_output(inner, batch, **output_kwargs)


def with_reference(
    model: nn.Module,
    batch: FeedbackBatch,
    reference_model: nn.Module | None = None,
    *,
    include_logits: bool = False,
    **output_kwargs: Any,
) -> FeedbackBatch:
    """The batch with `reference_logp`, and with `reference_logits` if `include_logits` says so.

    The other arguments are those of `reference_output`.
    """
    said = reference_output(model, batch, reference_model, **output_kwargs)
    batch = batch.replace(reference_logp=said.logp)
    return batch.replace(reference_logits=said.logits) if include_logits else batch


@contextlib.contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """The model without dropout, and afterwards as it was."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def unwrap_model(model: nn.Module) -> Any:
    """The model without what distributes it over devices."""
    inner: Any = model
    while isinstance(getattr(inner, "module", None), nn.Module):
        inner = inner.module
    return inner


def max_context_length(model: nn.Module) -> int | None:
    """How many tokens the model can read, if it says so."""
    return getattr(getattr(unwrap_model(model), "config", None), "max_position_embeddings", None)


def _check(model: nn.Module, batch: FeedbackBatch, temperature: float) -> None:
    if batch.num_models != 1:
        raise UserError(
            f"a language model is one policy, and the batch has {batch.num_models}",
            code="wrong_shape",
            path="batch",
        )
    if batch.observation.dim() != 3 or batch.observation.is_floating_point():
        code = "wrong_type" if batch.observation.is_floating_point() else "wrong_shape"
        message = f"`seen` is tokens [1, sample, place], not {tuple(batch.observation.shape)}"
        raise UserError(message, code=code, path="seen")
    if batch.observation.shape[-1] <= batch.num_steps:
        raise UserError(
            "`seen` begins with a prompt: it is longer than there are steps",
            code="wrong_shape",
            path="seen",
        )
    if temperature <= 0:
        raise UserError(
            f"temperature is above 0, not {temperature}", code="out_of_range", path="temperature"
        )
    most, width = max_context_length(model), batch.observation.shape[-1]
    if most is not None and width > most:
        raise UserError(
            f"a batch {width} tokens wide, and the model reads {most} at most",
            code="too_large",
            path="seen",
        )


def forward_logits(
    model: nn.Module,
    tokens: Int[Tensor, "sample place"],
    logits_to_keep: int,
    output_hidden_states: bool = False,
) -> tuple[Float[Tensor, "sample kept option"], Float[Tensor, "sample place size"] | None]:
    """Raw logits, of the last `logits_to_keep` places at least, and the last layer's states if asked for."""
    known = _forward_parameters(model)
    asked: dict[str, Any] = {"use_cache": False}
    if "logits_to_keep" in known:
        asked["logits_to_keep"] = logits_to_keep
    if output_hidden_states:
        asked["output_hidden_states"] = True
    said = model(**_forward_inputs(tokens, known), **asked)
    return said.logits, said.hidden_states[-1].float() if output_hidden_states else None


def forward_next(
    model: nn.Module, tokens: Int[Tensor, "sample place"], cache: Any
) -> tuple[Float[Tensor, "sample option"], Any]:
    """Raw logits of what comes next, and a cache for when one token was appended to each.

    Args:
        model: causal, of transformers.
        tokens: tokens that end at the same place.
        cache: of the call before, when all but the last token was read; `None` at first.
    """
    known = _forward_parameters(model)
    inputs = _forward_inputs(tokens, known)
    kept = "cache" if "cache" in known else "past_key_values"  # renamed in transformers 5
    if cache is not None:
        inputs = {n: x if n == "attention_mask" else x[:, -1:] for n, x in inputs.items()}
        inputs[kept] = cache
    if "logits_to_keep" in known:
        inputs["logits_to_keep"] = 1
    said = model(**inputs, use_cache=True)
    return said.logits[:, -1], getattr(said, kept, None)


def _forward_inputs(
    tokens: Int[Tensor, "sample place"], accepted: frozenset[str]
) -> dict[str, Any]:
    """Arguments of the model that say what it reads."""
    real = (tokens != NO_TOKEN).long()
    inputs = {"input_ids": torch.where(tokens == NO_TOKEN, 0, tokens), "attention_mask": real}
    if "position_ids" in accepted:
        inputs["position_ids"] = (real.cumsum(-1) - 1).clamp(min=0)
    return inputs


def _forward_parameters(model: nn.Module) -> frozenset[str]:
    """Names that the model's own forward takes: not all models know of positions."""
    inner = unwrap_model(model)
    if hasattr(inner, "get_base_model"):
        inner = inner.get_base_model()
    return frozenset(inspect.signature(inner.forward).parameters)


def _last_token_states(
    states: Float[Tensor, "sample place size"], tokens: Int[Tensor, "sample place"]
) -> Float[Tensor, "sample size"]:
    """States at the last token of each sample."""
    places = torch.arange(tokens.shape[-1], device=tokens.device)
    last = torch.where(tokens == NO_TOKEN, -1, places).amax(-1)
    return states[torch.arange(len(tokens), device=tokens.device), last]


def _entropy(
    logits: Float[Tensor, "policy sample step option"], action_mask: Tensor | None
) -> Float[Tensor, "policy sample step"]:
    """-Σ p log p; closed options add nothing, also not to the gradient."""
    if action_mask is not None:
        logits = torch.where(action_mask, logits, 0.0)
        return -(torch.where(action_mask, logits.exp(), 0.0) * logits).sum(-1)
    return -(logits.exp() * logits).sum(-1)
