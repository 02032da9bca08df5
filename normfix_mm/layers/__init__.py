"""Layers that normalize their weight, and the way there and back, in pure torch."""
