"""Language models as learners: the edge at which Hugging Face's libraries and ours meet.

Needs the extra `hf` (transformers, trl, peft, accelerate, datasets); nothing of it is imported
before it is used, but by `trainer`, which is imported by whoever has it.

    wording    text to tokens, by the model's own chat template where it has one
    layout     tokens as a `FeedbackBatch`
    rows       rows of data to batches, by a data collator
    policy     what a language model says of a batch, and what its reference says
    trainer    `transformers.Trainer` with an objective of ours
    trl        what people prefer, as data for TRL's trainers
    reference  frozen copies; models made in memory, saved so that they have a path
    talk       a game told in words, and a reply read
    speaker    a model that answers turn after turn: for `mores.clients.trl`, which plays
    choosing   one of several replies, by the probability that a model gives to each
"""
