"""Checkpoint files, read without running their code, and the form of the weights in them."""
