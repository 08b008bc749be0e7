"""Statistics of replicates: estimates with intervals, sensitivity indices.

`intervals` estimates statistics over replicates. `sensitivity` computes Sobol and Morris indices.
"""
