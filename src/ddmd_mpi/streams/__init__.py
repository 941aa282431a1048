"""Streams of blocks between ranks, and their archive. The only room with ADIOS2."""

from ..lean import hidden

# ADIOS2 takes CuPy and PyTorch along where they are installed: two seconds and 300 MB for every rank.
with hidden("cupy", "torch"):
    import adios2  # noqa: F401
