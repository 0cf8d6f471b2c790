"""The checker: a driver's callbacks under every interleaving with its own paths."""
