"""Fair comparison of methods that are tuned: one budget for all, and what a difference means.

How a tuner searches is not here.
"""
