"""What can be inferred about people from what they say and choose.

`ideal_point` holds the spatial model of the vote, `estimate_projection` what speaks against taking people's
placements of candidates at their word, `voters_1996` the figures of both for real voters.
"""
