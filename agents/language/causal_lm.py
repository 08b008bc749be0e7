"""Output of a causal language model on a batch of tokens, and of its reference.

With x the prompt and y the completion, step t is the token y_t, and

    log π(y_t | x, y_<t) = log softmax(logits / temperature)[y_t]

over the whole vocabulary, in 32 bits for every precision of the model. The layout of tokens is that
of `token_layout`. A language model is one model, P = 1. The reference of a model with adapters is
the model without them, as in TRL; of any other, a frozen copy (`make_reference_model`).
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
from mores.agents.learning.losses.reductions import check_positive
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
    """Output of the model on a batch in the layout of `token_layout`.

    Args:
        model: causal, of transformers; with or without adapters.
        batch: of one model. `action_mask` excludes illegal tokens.
        temperature: divisor of logits.
        compute_entropy: whether to compute the entropy of each step, `[1, sample, step]` in nats.
            It takes as much memory again as the logits.
        compute_embedding: whether to return the last hidden state at each sample's last token.
        value_head: function of the hidden state that predicts a token: one number, the `value`.
        score_head: function of the hidden state at each sample's last token: the `score`.

    Raises:
        UserError: the batch is not in that layout, or is longer than the model's context.
    """
    _check(model, batch, temperature)
    needs_states = compute_embedding or value_head is not None or score_head is not None
    steps, tokens = batch.num_steps, batch.observation[0]
    raw, hidden_states = forward_logits(model, tokens, steps + 1, needs_states)
    # The prediction at the last token is not used.
    scores = raw[:, -(steps + 1) : -1].float() / temperature  # sample step option
    if batch.action_mask is not None:
        scores = scores.masked_fill(~batch.action_mask[0], float("-inf"))
    logits = scores.log_softmax(-1)[None]
    logp = logits.gather(-1, batch.action[..., None])[..., 0]
    value = score = embedding = None
    if hidden_states is not None:
        if value_head is not None:
            value = value_head(hidden_states[:, -(steps + 1) : -1]).float()[None, ..., 0]
        last_states = _last_token_states(hidden_states, tokens)
        embedding = last_states[None] if compute_embedding else None
        score = None if score_head is None else score_head(last_states).float()[None]
    entropy = _entropy(logits, batch.action_mask) if compute_entropy else None
    return ModelOutput(logp, logits, entropy, value, score, embedding)


def reference_output(
    model: nn.Module,
    batch: FeedbackBatch,
    reference_model: nn.Module | None = None,
    **output_kwargs: Any,
) -> ModelOutput:
    """Output of the reference, without gradients.

    Args:
        model: the trained model; its adapters are disabled if there is no `reference_model`.
        batch: as for `lm_output`.
        reference_model: the reference, if it is a separate model.
        **output_kwargs: of `lm_output`.

    Raises:
        UserError: there is neither a reference model nor are there adapters.
    """
    output_kwargs = {"compute_entropy": False, **output_kwargs}
    if reference_model is not None:
        with torch.no_grad(), eval_mode(reference_model):
            return lm_output(reference_model, batch, **output_kwargs)
    inner = unwrap_model(model)
    if not hasattr(inner, "disable_adapter"):
        raise UserError(
            "a model without adapters needs a reference_model: call make_reference_model(model) "
            "before training begins",
            code="missing",
            path="reference_model",
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
    """The batch with `reference_logp`, and with `reference_logits` if `include_logits`.

    The other arguments are those of `reference_output`.
    """
    out = reference_output(model, batch, reference_model, **output_kwargs)
    batch = batch.replace(reference_logp=out.logp)
    return batch.replace(reference_logits=out.logits) if include_logits else batch


@contextlib.contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Context without dropout; the mode is restored at its end."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def unwrap_model(model: nn.Module) -> Any:
    """The model without wrappers that distribute it over devices."""
    inner: Any = model
    while isinstance(getattr(inner, "module", None), nn.Module):
        inner = inner.module
    return inner


def max_context_length(model: nn.Module) -> int | None:
    """Number of tokens in the model's context, if its config states it."""
    return getattr(getattr(unwrap_model(model), "config", None), "max_position_embeddings", None)


def _check(model: nn.Module, batch: FeedbackBatch, temperature: float) -> None:
    if batch.num_models != 1:
        raise UserError(
            f"a language model needs a batch of one model, not {batch.num_models}",
            code="wrong_shape",
            path="batch",
        )
    observation = batch.observation
    if observation.dim() != 3 or observation.is_floating_point():
        code = "wrong_type" if observation.is_floating_point() else "wrong_shape"
        message = f"observation must be token ids [1, sample, position], not {[*observation.shape]}"
        raise UserError(message, code=code, path="observation")
    if observation.shape[-1] <= batch.num_steps:
        raise UserError(
            "observation must begin with a prompt: it must be longer than the steps",
            code="wrong_shape",
            path="observation",
        )
    check_positive("temperature", temperature, path="temperature")
    limit, width = max_context_length(model), observation.shape[-1]
    if limit is not None and width > limit:
        raise UserError(
            f"a batch has {width} tokens per sample, and the model's context {limit}",
            code="too_large",
            path="observation",
        )


def forward_logits(
    model: nn.Module,
    tokens: Int[Tensor, "sample position"],
    logits_to_keep: int,
    output_hidden_states: bool = False,
) -> tuple[Float[Tensor, "sample kept option"], Float[Tensor, "sample position size"] | None]:
    """Raw logits, of at least the last `logits_to_keep` positions, and the last layer's states."""
    accepted = forward_parameters(model)
    kwargs: dict[str, Any] = {"use_cache": False}
    if "logits_to_keep" in accepted:
        kwargs["logits_to_keep"] = logits_to_keep
    if output_hidden_states:
        kwargs["output_hidden_states"] = True
    out = model(**_forward_inputs(tokens, accepted), **kwargs)
    return out.logits, out.hidden_states[-1].float() if output_hidden_states else None


def forward_next(
    model: nn.Module, tokens: Int[Tensor, "sample position"], cache: Any
) -> tuple[Float[Tensor, "sample option"], Any]:
    """Raw logits of the next token, and a cache for the call with one more token per sample.

    Args:
        model: causal, of transformers.
        tokens: tokens that end at the same position.
        cache: of the call before, which had all but the last token; `None` at first.
    """
    accepted = forward_parameters(model)
    inputs = _forward_inputs(tokens, accepted)
    name = "cache" if "cache" in accepted else "past_key_values"  # renamed in transformers 5
    if cache is not None:
        inputs = {n: x if n == "attention_mask" else x[:, -1:] for n, x in inputs.items()}
        inputs[name] = cache
    if "logits_to_keep" in accepted:
        inputs["logits_to_keep"] = 1
    out = model(**inputs, use_cache=True)
    return out.logits[:, -1], getattr(out, name, None)


def _forward_inputs(
    tokens: Int[Tensor, "sample position"], accepted: frozenset[str]
) -> dict[str, Any]:
    """Arguments of the model for these tokens."""
    valid = (tokens != NO_TOKEN).long()
    inputs = {"input_ids": torch.where(tokens == NO_TOKEN, 0, tokens), "attention_mask": valid}
    if "position_ids" in accepted:
        inputs["position_ids"] = (valid.cumsum(-1) - 1).clamp(min=0)
    return inputs


def forward_parameters(model: nn.Module) -> frozenset[str]:
    """Parameter names of the model's own `forward`: not all models accept positions."""
    inner = unwrap_model(model)
    if hasattr(inner, "get_base_model"):
        inner = inner.get_base_model()
    return frozenset(inspect.signature(inner.forward).parameters)


def _last_token_states(
    states: Float[Tensor, "sample position size"], tokens: Int[Tensor, "sample position"]
) -> Float[Tensor, "sample size"]:
    """States at the last token of each sample."""
    positions = torch.arange(tokens.shape[-1], device=tokens.device)
    last = torch.where(tokens == NO_TOKEN, -1, positions).amax(-1)
    return states[torch.arange(len(tokens), device=tokens.device), last]


def _entropy(
    logits: Float[Tensor, "model sample step option"], action_mask: Tensor | None
) -> Float[Tensor, "model sample step"]:
    """-Σ p log p; illegal options add nothing, also not to the gradient."""
    if action_mask is not None:
        logits = torch.where(action_mask, logits, 0.0)
        return -(torch.where(action_mask, logits.exp(), 0.0) * logits).sum(-1)
    return -(logits.exp() * logits).sum(-1)
