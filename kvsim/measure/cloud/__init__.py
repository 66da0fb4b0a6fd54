"""vLLM on a rented GPU: what is run there, what it may cost at most, and what comes back."""
