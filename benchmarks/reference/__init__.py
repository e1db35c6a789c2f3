"""The reference's networks in plain torch, for tests of parity and for comparisons of speed.

Written from their published descriptions and tables, with the keys and shapes of the published
files. Nothing but the benchmarks and tests of parity needs torch; the project converts and runs
such weights without it.
"""
