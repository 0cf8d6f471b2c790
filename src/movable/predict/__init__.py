"""Answers: what compaction would recover, and which pages stand in its way."""
