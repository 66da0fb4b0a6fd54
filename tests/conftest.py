"""Hypothesis without time limits per example, as the machine's speed is no property; and tests run on the sources,
unless ``KVSIM_PURE`` is set to nothing, as by ``make test`` for all but those marked ``sources``.

Of several workers each has a core of its own, so that the runs it starts simulate one after the other.

This file also puts its folder on the import path: ``builders``, ``traffic`` and ``block_by_block`` serve all folders.
"""

import os

from hypothesis import settings

os.environ.setdefault("KVSIM_PURE", "1")

if "PYTEST_XDIST_WORKER" in os.environ and hasattr(os, "sched_setaffinity"):
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[int(os.environ["PYTEST_XDIST_WORKER"].removeprefix("gw")) % len(cores)]})

settings.register_profile("kvsim", deadline=None, report_multiple_bugs=False, print_blob=True)
settings.load_profile("kvsim")
