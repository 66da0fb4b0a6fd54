"""Questions that take several runs: each is answered on a sample of the cluster, with common random numbers."""
