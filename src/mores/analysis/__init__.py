"""Statistics of replicates: estimates with intervals, sensitivity indices, and the run reader.

`intervals` estimates statistics over replicates. `sensitivity` computes Sobol and Morris indices.
`run_reader` reads the folder of a run.
"""
