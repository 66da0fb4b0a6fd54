"""What can go wrong with a request, by kind."""

from __future__ import annotations

import asyncio
import errno
import ssl

import aiohttp

from kvsim.measure.stream import BadAnswerError

LONGEST = 200
"""Characters of an error's text that are kept."""
KINDS = {
    "refused": "nobody listens there",
    "unreachable": "no way to the host, or no such host",
    "connect_timeout": "no connection within --connect-timeout",
    "timeout": "no whole answer within --timeout",
    "cut": "the connection ended before the answer did",
    "bad_answer": "what came is no answer",
    "stream_error": "the server said within the answer that it failed",
    "too_many_files": "this process may not open another connection (ulimit -n)",
    "interrupted": "under way as the run was interrupted",
}
"""Beside these: ``http_`` and a status, such as ``http_429``."""


def kind_of(error: BaseException) -> str:
    """The kind that an error of the connection is counted under."""
    if isinstance(error, BadAnswerError):
        return error.kind
    number = getattr(error, "errno", None) or getattr(getattr(error, "os_error", None), "errno", None)
    if number in (errno.EMFILE, errno.ENFILE):
        return "too_many_files"
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return "connect_timeout"
    if isinstance(error, asyncio.TimeoutError | TimeoutError):
        return "timeout"
    if isinstance(error, aiohttp.ClientConnectorError | ssl.SSLError):
        return "refused" if number == errno.ECONNREFUSED else "unreachable"
    if isinstance(error, aiohttp.ClientPayloadError | aiohttp.ServerDisconnectedError | aiohttp.ClientOSError):
        return "cut"
    return "bad_answer"


def text_of(error: BaseException) -> str:
    """What it says."""
    return str(error) or type(error).__name__


def shortened(text: str) -> str:
    """One line of at most ``LONGEST`` characters."""
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 3]}..."
