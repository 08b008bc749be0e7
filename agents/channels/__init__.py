"""Feedback channels: choices, ratings, critiques and demonstrations, from latent judgements."""
