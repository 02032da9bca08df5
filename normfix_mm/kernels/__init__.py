"""Arithmetic on weights, in pure torch: statistics of rows, norms, edits of many tensors."""
