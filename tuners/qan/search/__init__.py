"""The search: which episode comes next, what is decided in it, and who is best.

Nothing here learns: see `agent`.
"""
