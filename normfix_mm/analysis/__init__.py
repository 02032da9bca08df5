"""Measurements on a network, in pure torch: scale-invariance, norms, risks, tables."""
