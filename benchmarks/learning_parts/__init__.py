"""Parts of the benchmark `benchmarks/learning.py`, one per module."""
