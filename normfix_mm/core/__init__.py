"""The mathematics, in pure torch: layers, regularizer, norm fixing, checks and folding."""
