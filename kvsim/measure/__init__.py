"""A load client for OpenAI-compatible servers: replays a workload, and times every token of every answer."""

from kvsim.measure.measure import measure
from kvsim.measure.result import ClientFacts, MeasuredRun, MetricsReading, RequestRow, ServerMetrics
from kvsim.measure.settings import Sending, Server, server_of

__all__ = [
    "ClientFacts",
    "MeasuredRun",
    "MetricsReading",
    "RequestRow",
    "Sending",
    "Server",
    "ServerMetrics",
    "measure",
    "server_of",
]
