"""Adapters of one environment to Gymnasium, PettingZoo, TorchRL, Stable-Baselines3, TRL and Mesa.

Every client calls `Simulator`; the simulation loop is implemented only there. `mesa` also has the
reverse: a user's Mesa model as an environment.
"""
