"""Ranks, windows and messages between them: the only room with mpi4py."""
