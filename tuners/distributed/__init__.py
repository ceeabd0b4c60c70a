"""One search on many processes, and after a kill: oracle, tuner, chief, client.

What is searched is not here.
"""
