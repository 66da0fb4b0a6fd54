"""Studies that stand alone, each with its own cases: ``kvsim study NAME``, ``python -m experiments.NAME``."""
