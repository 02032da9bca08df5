"""OCNet: object context by self-attention, its backbone and its head."""
