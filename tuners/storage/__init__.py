"""Files of a search, all or nothing: names, settings, arrays.

What they mean is not here.
"""
