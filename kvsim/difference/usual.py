"""How often cases are run and how much is told unless somebody asks; known to commands that import nothing else."""

from __future__ import annotations

RUNS = 8
"""Runs of each side: few enough to wait for, enough for intervals of thirty figures together."""
ROWS = 10
"""Requests that are told of one by one."""
