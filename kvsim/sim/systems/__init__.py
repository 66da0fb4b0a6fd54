"""Whole systems: unified serving, and prefill apart from decode."""
