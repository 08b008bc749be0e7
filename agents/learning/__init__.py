"""Learners: what they learn from, what they minimise, and the loops in which they do."""
