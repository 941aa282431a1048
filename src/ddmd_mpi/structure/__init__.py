"""From positions to features, with NumPy and SciPy alone."""

#: People read lengths in angstrom; arrays are in nm.
ANGSTROM_PER_NM = 10.0
