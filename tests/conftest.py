"""Puts this folder on the import path: ``builders`` and ``block_by_block`` serve tests in all folders."""
