"""Hypothesis without time limits per example: the machine's speed is no property. This file also puts the folder on the
import path, where ``builders``, ``traffic`` and ``block_by_block`` serve the tests of all folders; they run on the sources."""

import os

from hypothesis import settings

os.environ.setdefault("KVSIM_PURE", "1")

settings.register_profile("kvsim", deadline=None, report_multiple_bugs=False, print_blob=True)
settings.load_profile("kvsim")
