"""Ranks, windows and messages between them: the only package with mpi4py."""
