"""Where runs are performed: in this process, on processes of this machine, on a Ray or a Dask cluster.

Each takes a run and gives a ``concurrent.futures.Future``; whoever drives a sweep sees no other difference.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol, Self
from urllib.parse import urlsplit

from kvsim.errors import KvsimError
from kvsim.sim.clean_processes import begin_worker, clean_context, clean_start, end_server
from kvsim.sweep.perform import perform
from kvsim.sweep.tasks import Done, Task

ANSWER_S = 5.0
"""How long an address may take to answer."""
_SETTINGS = b"\0\0\0\4\0\0\0\0\0"
_HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _SETTINGS
"""How a client of gRPC begins (RFC 9113, 3.4): Ray's servers answer with settings of theirs."""
_RETRIES = 3
"""How often a cluster runs a task again whose worker has died."""


class Gone(KvsimError):
    """The workers cannot be reached any more."""


class Workers(Protocol):
    """Where runs are performed; a context manager."""

    ahead: int
    """Runs that are handed out for each that can be performed now, so that no worker waits for the next."""

    def __enter__(self) -> Self:
        """Reach them. Raises a ``KvsimError`` where they cannot be."""

    def __exit__(self, *_: object) -> None:
        """Let go of them, whatever they still do."""

    def submit(self, task: Task) -> Future[Done]:
        """Perform a run, some time."""

    @property
    def slots(self) -> int:
        """How many runs are performed at a time, by now."""

    def is_death(self, error: BaseException) -> bool:
        """Whether a worker has died rather than the run failed; it may have been another run's fault.

        Raises ``Gone`` where no run can be performed any more.
        """


class Here:
    """One run after the other, in this process."""

    slots = ahead = 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, task: Task) -> Future[Done]:
        """As :meth:`Workers.submit`; it has ended when this returns."""
        future: Future[Done] = Future()
        future.set_result(perform(task))
        return future

    def is_death(self, error: BaseException) -> bool:
        """Never: it would be this process's own."""
        return False


class Local:
    """Processes of this machine."""

    ahead = 2

    def __init__(self, processes: int) -> None:
        self.slots = processes
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        if self._pool is not None:
            if raised[0] is not None:
                for process in list((self._pool._processes or {}).values()):
                    process.kill()
            self._pool.shutdown(cancel_futures=True)
            self._pool = None
            end_server()

    def submit(self, task: Task) -> Future[Done]:
        """As :meth:`Workers.submit`; after a death on processes of their own."""
        with clean_start():
            try:
                return self._pooled().submit(perform, task)
            except BrokenProcessPool:
                self._pool = None
                return self._pooled().submit(perform, task)

    def _pooled(self) -> ProcessPoolExecutor:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(self.slots, clean_context("kvsim.sweep.work"), begin_worker)
        return self._pool

    def is_death(self, error: BaseException) -> bool:
        """As :meth:`Workers.is_death`: all processes have ended with the one that died."""
        return isinstance(error, BrokenProcessPool)


class Dask:
    """The workers of a Dask scheduler, or of one that is started here."""

    ahead = 2

    def __init__(self, address: str | None, processes: int) -> None:
        self._address, self._processes = address, processes
        self._library: Any = _library("distributed", "dask")
        self._client: Any = None

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            cluster = opened.enter_context(self._started()) if self._address is None else None
            if self._address is not None:
                _ensure_answers(self._address)
                self._ensure_scheduler(self._address)
            client = self._library.Client(cluster or self._address, timeout=ANSWER_S, set_as_default=False)
            self._client = opened.enter_context(client)
            self._executor = self._client.get_executor(pure=False)
            opened.callback(self._executor.shutdown, wait=False)
            self._opened = opened.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    @contextmanager
    def _started(self) -> Iterator[Any]:
        """A scheduler and workers of this machine; one that dies is replaced by another."""
        with (
            clean_start(),
            self._library.LocalCluster(
                n_workers=self._processes,
                threads_per_worker=1,
                protocol="tcp",
                host="127.0.0.1",
                dashboard_address=":0",
                silence_logs=logging.CRITICAL,
            ) as cluster,
        ):
            yield cluster

    def _ensure_scheduler(self, address: str) -> None:
        """Raise a ``KvsimError`` where somebody listens who is no scheduler: a client would ask it for minutes."""

        async def asked() -> None:
            async with self._library.rpc(address) as scheduler:
                await asyncio.wait_for(scheduler.identity(), ANSWER_S)

        try:
            asyncio.run(asyncio.wait_for(asked(), ANSWER_S))
        except (OSError, ValueError, TimeoutError) as error:
            raise _silent(address, "no Dask scheduler answers there") from error

    def submit(self, task: Task) -> Future[Done]:
        """As :meth:`Workers.submit`."""
        future: Future[Done] = self._executor.submit(perform, task)
        return future

    @property
    def slots(self) -> int:
        """Workers: a run has its process for itself, whatever threads that has."""
        try:
            return len(self._client.nthreads())
        except (OSError, TimeoutError) as error:
            raise Gone(f"the Dask scheduler is gone: {error}") from error

    def is_death(self, error: BaseException) -> bool:
        """As :meth:`Workers.is_death`: so many workers died with this run that Dask gives it up."""
        return isinstance(error, self._library.KilledWorker)


class Ray:
    """The nodes of a Ray cluster, or this machine as one."""

    ahead = 2

    def __init__(self, address: str | None, processes: int) -> None:
        self._address, self._processes = address, processes
        self._library: Any = _library("ray", "ray")

    def __enter__(self) -> Self:
        ray = self._library
        quiet = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": True}
        if self._address is None:
            with clean_start():
                ray.init(num_cpus=self._processes, include_dashboard=False, **quiet)
        else:
            if self._address != "auto":
                _ensure_answers(self._address, _HTTP2)
            try:
                ray.init(address=self._address, **quiet)
            except (ImportError, OSError, RuntimeError, ValueError) as error:
                raise _silent(self._address, f"Ray cannot join: {' '.join(str(error).split())}") from error
        self._perform = ray.remote(num_cpus=1, max_retries=_RETRIES)(perform)
        return self

    def __exit__(self, *_: object) -> None:
        self._library.shutdown()

    def submit(self, task: Task) -> Future[Done]:
        """As :meth:`Workers.submit`."""
        future: Future[Done] = self._perform.remote(task).future()
        return future

    @property
    def slots(self) -> int:
        """CPUs of the cluster."""
        return int(self._library.cluster_resources().get("CPU", 0))

    def is_death(self, error: BaseException) -> bool:
        """As :meth:`Workers.is_death`: Ray has tried again, and gives it up. Without this node's own part of Ray it
        gives up all.
        """
        known = self._library.exceptions
        if isinstance(error, known.WorkerCrashedError | known.OutOfMemoryError | known.NodeDiedError):
            return True
        if isinstance(error, known.RayError) and not isinstance(error, known.RayTaskError):
            raise Gone(f"Ray cannot perform runs any more: {' '.join(str(error).split())}") from error
        return False


def workers_of(executor: str, address: str | None, processes: int) -> Workers:
    """``local``, ``ray`` or ``dask``. Raises a ``KvsimError`` where its package is not installed."""
    if executor == "ray":
        return Ray(address, processes)
    if executor == "dask":
        return Dask(address, processes)
    return Local(processes) if processes > 1 else Here()


def _library(name: str, extra: str) -> Any:
    try:
        return __import__(name)
    except ImportError as error:
        raise KvsimError(f"--executor {extra}: {error}; pip install 'kvsim[{extra}]'") from None


def _ensure_answers(address: str, greeting: bytes = b"") -> None:
    """Raise a ``KvsimError`` unless somebody listens there, and answers the ``greeting`` as HTTP/2: libraries take
    minutes to find out.
    """
    try:
        parts = urlsplit(address if "://" in address else f"//{address}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or port is None:
        raise KvsimError(f"--address is {address!r}; allowed: HOST:PORT, or with a scheme such as tcp:// or ray://")
    try:
        with socket.create_connection((host, port), ANSWER_S) as found:
            if greeting and "RAY_USE_TLS" not in os.environ:
                found.sendall(greeting)
                if found.recv(len(_SETTINGS))[3:4] != _SETTINGS[3:4]:
                    raise _silent(address, "no Ray cluster answers there")
    except OSError as error:
        raise _silent(address, (error.strerror or str(error)).lower()) from None


def _silent(address: str, why: str) -> KvsimError:
    return KvsimError(f"--address {address}: {why}")
