"""Checkpoints in: read safely, rename to OpenMMLab's names, keep or change the form of weights."""
