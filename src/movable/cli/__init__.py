"""The commands: one class, one file each.  Nothing imports this package."""
