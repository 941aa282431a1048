"""Who does what and where: ranks, nodes, streams and memory; pure arithmetic without MPI."""
