"""What a normalized weight gets in place of weight decay, in pure torch."""
