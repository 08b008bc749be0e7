"""The simulation loop: the simulator, its agents, policy states, rewards and episodes."""
