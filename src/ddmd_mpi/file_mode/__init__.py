"""File mode: the same work one stage after the other, with HDF5 files in between. The only room with h5py."""
