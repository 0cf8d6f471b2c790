"""Drivers to learn from and to copy: a balloon, a compressed store, a graphics buffer pool."""
