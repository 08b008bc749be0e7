"""What `benchmarks/learning.py` measures, a part a file."""
