"""The agent: a deep Q-network, its memory, rewards and exploration.

The training that it steers is not here.
"""
