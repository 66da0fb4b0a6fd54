"""The command line, one file per verb. Exit codes: 0 done, 2 bad input, 1 anything else."""

from kvsim.cli.entry import main

__all__ = ["main"]
