"""Language models as policies and learners, with the libraries of Hugging Face.

Needs the extra `hf` (transformers, trl, peft, accelerate, datasets). Its libraries are imported at
first use, except by `objective_trainer`, which imports transformers.

    tokenization       text to tokens, by the model's chat template if it has one
    token_layout       tokens as a `FeedbackBatch`
    collate            rows of a data set to batches, by a data collator
    causal_lm          output of a causal language model on a batch, and of its reference
    objective_trainer  `transformers.Trainer` with an `Objective`
    trl_datasets       preferences as data sets for TRL's trainers
    reference_model    frozen copies, and models with a path
    prompting          an environment as text, and replies as actions
    lm_policy          multi-turn rollouts of a causal language model, for `mores.clients.trl`
    closed_choice      one of several replies, sampled by the model's probability of each
"""
