"""The agent: a deep Q-network, its replay buffer, rewards and exploration.

It knows the training that it steers by reports and trajectories only, and nothing of the search.
"""
