"""The plan of a search: which episode comes next, who is best.

Learning and training are not here.
"""
