"""A queue of requests under a budget of KV memory: workload files, schedulers, and what becomes of every request."""
