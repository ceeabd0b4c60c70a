"""What is learned: groups, scales, schedules, and how values move.

Who uses them is not here.
"""
