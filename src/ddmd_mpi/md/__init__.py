"""The engines of molecular dynamics and the molecules they move: the only package with OpenMM."""
