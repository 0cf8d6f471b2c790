"""Reading a machine, and the snapshots made of it.  Never reaches Numba."""
