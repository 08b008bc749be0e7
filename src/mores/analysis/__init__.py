"""The statistics of mores: arrays in, figures with honest intervals and verdicts out.

`intervals` estimates over replicates, `verdicts` judges claims, `drift` measures how far and how
straight values moved, `distributions` how a community's values lie, `open_run` reads a run.
"""
