"""Reading a machine: the live one, or one that was recorded.  Never imports Numba."""
