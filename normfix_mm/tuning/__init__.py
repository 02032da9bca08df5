"""Comparing methods on data of one's own."""
