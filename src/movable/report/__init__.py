"""Rendering of result records: text, JSON, HTML."""
