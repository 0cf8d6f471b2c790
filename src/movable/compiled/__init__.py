"""The loops: compiled with Numba, plain Python with NUMBA_DISABLE_JIT=1."""
