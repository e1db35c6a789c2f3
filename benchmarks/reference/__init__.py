"""The reference's networks in plain torch, for tests of parity and for comparisons of speed.

Written from their published descriptions and tables, with the keys and shapes of the published
files. The only package of the project that needs torch; everything else converts and runs such
weights without it.
"""
