"""Hypothesis without time limits per example, as the machine's speed is no property; and tests run on the sources,
unless ``KVSIM_PURE`` is set to nothing, as by ``make test`` for all but those marked ``sources``.

This file also puts its folder on the import path: ``builders``, ``traffic`` and ``block_by_block`` serve all folders.
"""

import os

from hypothesis import settings

os.environ.setdefault("KVSIM_PURE", "1")

settings.register_profile("kvsim", deadline=None, report_multiple_bugs=False, print_blob=True)
settings.load_profile("kvsim")
