"""The sixteen labs of the course, a file each: ``kvsim lab w01``, ``python -m experiments.labs.w01``."""
