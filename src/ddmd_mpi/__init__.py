"""DeepDriveMD as one MPI program: machine learning steers an ensemble of molecular-dynamics simulations."""

__version__ = "0.2.0"
