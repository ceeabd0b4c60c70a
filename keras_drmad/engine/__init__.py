"""The engine: trains along a path and walks back.

The update of a step is not here (`update_rules`), nor where the way back goes (`paths`).
"""
