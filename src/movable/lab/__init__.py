"""Real kernels in QEMU guests: run a scenario there, and lay predictions beside what happened."""
