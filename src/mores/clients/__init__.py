"""Adapters of one environment to Gymnasium, PettingZoo, TorchRL, Stable-Baselines3, TRL and Mesa.

Every client stands on the `Simulator`; none has a loop of its own. `mesa` also has the reverse: a
user's Mesa model as an environment.
"""
