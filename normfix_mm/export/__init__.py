"""Trained models out: folded into stock layers, with a stock config."""
