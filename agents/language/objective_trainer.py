"""A trainer of transformers whose loss is an `Objective`.

    loss = Σ_terms weight · term(output of the model on the term's view, batch)

It runs objectives for which TRL has no trainer: CUT (2312.14591) on rows with critiques, ADPA
(2502.17927) on a teacher's tables, or DPO with an anchor. Everything else, from checkpoints to
several devices, is done by transformers. With accumulated gradients, the loss of every batch has
the same weight, as its terms are means over the batch.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mores.agents.language.causal_lm import HeadFunction, eval_mode, lm_output, with_reference
from mores.agents.language.collate import VIEW_PREFIX, FeedbackDataCollator
from mores.agents.learning.batch import FeedbackBatch, ModelOutput
from mores.agents.learning.objective import PLAIN_VIEW, Objective
from mores.core.errors import UserError, did_you_mean

try:
    from transformers import Trainer, TrainingArguments
except ImportError as error:
    raise UserError(
        f"transformers is not installed ({error}): pip install 'mores[hf]'",
        code="not_installed",
        path="transformers",
    ) from None

BatchTransform = Callable[[FeedbackBatch, Mapping[str, ModelOutput]], FeedbackBatch]
ADAPTERS_OFF = "adapters off"


class ObjectiveTrainer(Trainer):
    """Trainer of a causal language model with an objective as its loss.

    Args:
        model: causal, of transformers, with or without adapters.
        objective: the loss to minimize.
        args: of transformers; all columns of the data are used, also unknown ones.
        processing_class: the tokenizer.
        data_collator: function from rows to a batch; by default `FeedbackDataCollator(tokenizer)`,
            which defines the columns of a row.
        reference_model: a frozen model, or `"adapters off"`, the model itself without its adapters:
            source of `reference_logp`.
        reference_logits: whether to compute `reference_logits` too.
        batch_transform: function that adds fields to the batch before the terms are computed, such
            as which tokens a critique marks as inappropriate, or the scores of a teacher. Its
            arguments: the batch, and the outputs of the model by view, without gradients.
        temperature: divisor of logits.
        compute_entropy: whether terms get the entropy of each step.
        value_head: function that returns values; its parameters train if it is part of the model.
        score_head: function that returns scores.
        **trainer_kwargs: of `transformers.Trainer`.

    Raises:
        UserError: `reference_model` is an unknown name.
    """

    loss_is_scaled_for_ga = False  # terms are means over a batch: transformers divides

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        args: TrainingArguments | None = None,
        *,
        processing_class: Any,
        data_collator: Callable[[Any], Mapping[str, Tensor]] | None = None,
        reference_model: nn.Module | str | None = None,
        reference_logits: bool = False,
        batch_transform: BatchTransform | None = None,
        temperature: float = 1.0,
        compute_entropy: bool = True,
        value_head: HeadFunction | None = None,
        score_head: HeadFunction | None = None,
        **trainer_kwargs: Any,
    ) -> None:
        if isinstance(reference_model, str) and reference_model != ADAPTERS_OFF:
            hint = did_you_mean(reference_model, [ADAPTERS_OFF])
            raise UserError(
                f"no reference_model {reference_model!r}{hint}: give a model or {ADAPTERS_OFF!r}",
                code="invalid_value",
                path="reference_model",
            )
        args = TrainingArguments() if args is None else copy.copy(args)
        args.remove_unused_columns = False  # columns of rows are not arguments of the model
        collator: Any = (
            FeedbackDataCollator(processing_class) if data_collator is None else data_collator
        )
        super().__init__(
            model=model,  # type: ignore[arg-type]
            args=args,
            data_collator=collator,
            processing_class=processing_class,
            **trainer_kwargs,
        )
        # Versions of transformers without `loss_is_scaled_for_ga` read this attribute alone.
        self.model_accepts_loss_kwargs = False
        self.objective, self.batch_transform = objective, batch_transform
        self.reference_model, self.reference_logits = reference_model, reference_logits
        if isinstance(reference_model, nn.Module):
            self.reference_model = reference_model.to(args.device)
        self._output_kwargs: dict[str, Any] = {
            "temperature": temperature,
            "compute_entropy": compute_entropy,
            "value_head": value_head,
            "score_head": score_head,
        }
        self._term_losses: dict[str, dict[str, list[Tensor]]] = {
            mode: defaultdict(list) for mode in ("train", "eval")
        }

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Mapping[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """The objective's loss, and the outputs of the model by view if `return_outputs`.

        Raises:
            UserError: the objective uses a view that the rows do not have.
        """
        batch, observations = split_views(inputs)
        outputs: dict[str, ModelOutput] = {}
        for view in self.objective.views:
            if view not in observations:
                raise UserError(
                    f"the objective uses the view {view!r}, and these rows have "
                    f"{sorted(observations)}{did_you_mean(view, observations)}",
                    code="unknown_name",
                    path="view",
                )
            outputs[view] = lm_output(
                model, batch.replace(observation=observations[view]), **self._output_kwargs
            )
        batch = self._prepare_batch(model, batch, outputs)
        losses = self.objective(outputs, batch)
        term_losses = self._term_losses["train" if model.training else "eval"]
        for name, term_loss in losses.by_term.items():
            term_losses[name].append(term_loss.detach().sum())
        loss = losses.total.sum()
        return (loss, outputs) if return_outputs else loss

    def _prepare_batch(
        self, model: nn.Module, batch: FeedbackBatch, outputs: Mapping[str, ModelOutput]
    ) -> FeedbackBatch:
        """The batch with the outputs of the reference, after `batch_transform`."""
        if self.reference_model is not None:
            frozen = self.reference_model if isinstance(self.reference_model, nn.Module) else None
            temperature = self._output_kwargs["temperature"]
            batch = with_reference(
                model, batch, frozen, include_logits=self.reference_logits, temperature=temperature
            )
        if self.batch_transform is None:
            return batch
        with torch.no_grad():
            return self.batch_transform(batch, outputs)

    def prediction_step(
        self,
        model: nn.Module,
        inputs: Mapping[str, Tensor],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[Tensor, None, None]:
        """The loss on a batch of the evaluation set."""
        inputs = self._prepare_inputs(inputs)  # type: ignore[arg-type]
        with torch.no_grad(), eval_mode(model), self.compute_loss_context_manager():
            loss = self.compute_loss(model, inputs)
        return loss.detach(), None, None

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log the values with the mean of every term since the last log."""
        mode = "eval" if any(name.startswith("eval_") for name in logs) else "train"
        prefix = "eval_" if mode == "eval" else ""
        for name, values in self._term_losses[mode].items():
            logs[f"{prefix}term/{name}"] = float(torch.stack(values).mean())
        self._term_losses[mode].clear()
        super().log(logs, start_time)


def split_views(inputs: Mapping[str, Tensor]) -> tuple[FeedbackBatch, dict[str, Tensor]]:
    """The batch in a collator's output, and its observations by view."""
    fields = {n: field[None] for n, field in inputs.items() if not n.startswith(VIEW_PREFIX)}
    observations = {
        n.removeprefix(VIEW_PREFIX): observation[None]
        for n, observation in inputs.items()
        if n.startswith(VIEW_PREFIX)
    }
    batch = FeedbackBatch(**fields)
    return batch, {PLAIN_VIEW: batch.observation, **observations}
