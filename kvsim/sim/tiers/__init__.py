"""Memory below the GPUs: what it holds, how it is reached, who asks for it."""
