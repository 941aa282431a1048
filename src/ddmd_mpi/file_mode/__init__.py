"""File mode: the same work one stage after the other, with HDF5 files in between. The only package with h5py."""
