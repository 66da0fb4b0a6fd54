"""Instances that are up or down, and requests that are sent again: the parts that know nothing of systems."""
