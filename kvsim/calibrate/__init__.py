"""Profiles from measurements."""
