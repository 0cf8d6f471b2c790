"""From a snapshot to pages: what each one is, what its pageblock's type is."""
