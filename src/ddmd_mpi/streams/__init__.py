"""Streams of blocks between ranks, and their archive. The only package with ADIOS2."""

from ..environ import without

# ADIOS2 takes CuPy and PyTorch along if they are installed: two seconds and 300 MB for every rank.
with without("cupy", "torch"):
    import adios2  # noqa: F401
