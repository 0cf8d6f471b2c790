"""The vocabulary: numbers, names and records that every other part shares."""
