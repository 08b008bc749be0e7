"""A trainer of transformers whose loss is an objective of ours.

    loss = Σ_terms weight · term(what the model says on the term's view, batch)

It runs what `Objective` can say and TRL has no trainer for: CUT (2312.14591) on judged rows, ADPA
(2502.17927) on a teacher's tables, or DPO with an anchor. Everything else, from checkpoints to
several devices, is transformers'. Where gradients are accumulated, each batch's loss counts the
same, as its terms are means over the batch.
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
    """Trains a causal language model by an objective.

    Args:
        model: causal, of transformers, with or without adapters.
        objective: what is minimised.
        args: of transformers; all columns of the data are kept, whatever they say of it.
        processing_class: the tokenizer.
        data_collator: makes batches of rows; by default `Rows(tokenizer)`, which says what a row
            may hold.
        reference_model: a frozen model, or `"adapters off"`: fills `reference_logp` in.
        reference_logits: whether to fill `reference_logits` in too.
        batch_transform: makes the batch that terms are told of from the batch and from what the model says
            of it by view, without gradients: which tokens a judgement found inappropriate, what a
            teacher scores.
        temperature: logits are divided by it.
        compute_entropy: whether terms are told each step's entropy.
        value_head: makes values; its parameters learn with the model's if it is part of the model.
        score_head: makes scores.
        **trainer_kwargs: of `transformers.Trainer`.

    Raises:
        UserError: the reference is of no known kind.
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
            known = did_you_mean(reference_model, [ADAPTERS_OFF])
            raise UserError(
                f"a reference is a frozen model or a name, not {reference_model!r}{known}",
                code="invalid_value",
                path="reference",
            )
        args = TrainingArguments() if args is None else copy.copy(args)
        args.remove_unused_columns = False  # a row's columns are no arguments of the model's
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
        # Before `loss_is_scaled_for_ga` transformers went by this alone.
        self.model_accepts_loss_kwargs = False
        self.objective, self.batch_transform = objective, batch_transform
        self.reference_model, self.reference_logits = reference_model, reference_logits
        if isinstance(reference_model, nn.Module):
            self.reference_model = reference_model.to(args.device)
        self._output_kwargs: dict[str, Any] = {
            "temperature": temperature,
            "entropy": compute_entropy,
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
        """The objective's loss, and what the model says by view if `return_outputs`.

        Raises:
            UserError: the objective asks about a view that the rows do not have.
        """
        batch, sights = split_views(inputs)
        outputs: dict[str, ModelOutput] = {}
        for view in self.objective.views:
            if view not in sights:
                raise UserError(
                    f"the objective asks about the view {view!r}, and these rows have "
                    f"{sorted(sights)}{did_you_mean(view, sights)}",
                    code="unknown_name",
                    path="on",
                )
            outputs[view] = lm_output(
                model, batch.replace(observation=sights[view]), **self._output_kwargs
            )
        batch = self._prepare_batch(model, batch, outputs)
        losses = self.objective(outputs, batch)
        parts = self._term_losses["train" if model.training else "eval"]
        for name, part in losses.by_term.items():
            parts[name].append(part.detach().sum())
        loss = losses.total.sum()
        return (loss, outputs) if return_outputs else loss

    def _prepare_batch(
        self, model: nn.Module, batch: FeedbackBatch, outputs: Mapping[str, ModelOutput]
    ) -> FeedbackBatch:
        """The batch with what the reference says, and what `batch_transform` adds."""
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
        """Logs with the mean of every term since the last ones."""
        mode = "eval" if any(name.startswith("eval_") for name in logs) else "train"
        prefix = "eval_" if mode == "eval" else ""
        for name, values in self._term_losses[mode].items():
            logs[f"{prefix}term/{name}"] = float(torch.stack(values).mean())
        self._term_losses[mode].clear()
        super().log(logs, start_time)


def split_views(inputs: Mapping[str, Tensor]) -> tuple[FeedbackBatch, dict[str, Tensor]]:
    """The batch that a collator made, and its sights by view."""
    fields = {n: field[None] for n, field in inputs.items() if not n.startswith(VIEW_PREFIX)}
    sights = {
        n.removeprefix(VIEW_PREFIX): seen[None]
        for n, seen in inputs.items()
        if n.startswith(VIEW_PREFIX)
    }
    batch = FeedbackBatch(**fields)
    return batch, {PLAIN_VIEW: batch.observation, **sights}
