"""Feedback transforms: they turn feedback on actions into fields that a loss can use.

Pure functions, from batch to batch or from tensors to tensors; random numbers are arguments.
Nothing is averaged, normalized or ranked across models.

    advantages              per step: generalized advantages, returns, normalization
    group_advantages        per answer: GRPO, RLOO, GRAO, REINFORCE
    aggregation             rewards of several principals combined into one
    annotator_reliability   estimated reliability of annotators: RE-PO around any pair loss
    honesty                 known questions, target answers, and scores of honesty
    evidence_masking        answers without evidence, and masked parts of observations
    inappropriate_actions   actions that a critique marks as inappropriate: CUT
    ranking_agreement       agreement of two rankings, and scores of ranks
    selection               selection of samples and pairs to learn from
    groups                  samples that answer one request: sums, means, quantiles
"""
