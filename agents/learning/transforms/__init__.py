"""Feedback transforms: what was said of acts becomes what a loss term can use.

Pure functions, batch to batch or tensors to tensors; where chance is needed the numbers are given.
Nothing is ever averaged, normalised or ranked across policies.

    advantages          step by step: generalised advantages, returns, normalisation
    group_advantages    answer by answer: GRPO, RLOO, GRAO, REINFORCE
    aggregation         rewards of several principals to one
    reliability         who judges well: RE-PO around any pair loss
    honesty             what a policy knows, what it should then say, and how honest it is
    evidence            answers made blind, and parts of a sight left out
    judgements          which acts a judgement condemns: CUT
    ranking             where two rankings agree, and how far apart ranks stand
    selection           which samples and pairs to learn from
    groups              samples that answer one request: sums, means, quantiles
"""
