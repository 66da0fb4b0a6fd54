"""kvsim: a discrete-event simulator of LLM-serving clusters and their KV caches."""

__version__ = "0.1.0"
