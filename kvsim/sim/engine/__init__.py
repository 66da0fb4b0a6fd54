"""One vLLM-like engine: its scheduler, its blocks, the steps it runs."""
