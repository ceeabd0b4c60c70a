"""The training that is steered: data, observations, actions, decisions.

Nothing here knows the agent.
"""
