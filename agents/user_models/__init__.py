"""Inference of people's preferences and beliefs from their answers and choices.

`ideal_point` is the spatial model of the vote, `projection` measures how people's placements of
candidates depend on their own position. `benchmarks/voters_1996.py` estimates both for real voters.
"""
