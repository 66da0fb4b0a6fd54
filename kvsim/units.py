"""Conversions at the boundary. Inside kvsim everything is seconds, bytes and tokens."""

from __future__ import annotations

GB = 1_000_000_000
KIB = 1024
MIB = 1024**2
GIB = 1024**3
TERA = 1_000_000_000_000
MILLI = 1e-3
MICRO = 1e-6
SECONDS_PER_HOUR = 3600
