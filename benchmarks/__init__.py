"""Benchmarks: `python -m benchmarks.NAME`, or `python -m benchmarks.NAME --help`.

A package of its own name also where another distribution installs a `benchmarks` folder.
"""
