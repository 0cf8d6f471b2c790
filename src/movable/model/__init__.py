"""The machine: zones of pages that the compiled loops compact."""
