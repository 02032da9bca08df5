"""Training on a folder of one's own without a config: everything is chosen, said and kept."""
