"""Adapters of one environment to Gymnasium, PettingZoo, TorchRL, Stable-Baselines3 and TRL.

Every client stands on the `Simulator`; none has a loop of its own.
"""
