"""kvsim: a discrete-event simulator of LLM-serving clusters and their KV caches."""

from kvsim._compiled import prefer_fresh

__version__ = "0.1.0"

prefer_fresh()
