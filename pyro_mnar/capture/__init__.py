"""A function of a batch as one graph of tensor operations: traced, and compiled."""
