"""A server, from what is deployed to the socket that it listens on."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from kvsim.errors import ConfigError
from kvsim.event_loop import event_loop
from kvsim.launch.front_end import FrontEnd
from kvsim.serve.answers import Answers
from kvsim.serve.app import Said, make_app
from kvsim.serve.asking import Served
from kvsim.serve.deployed import Deployed, cache_labels, kvsim_facts, vllm_config
from kvsim.serve.engine import Limits, SimulatedEngine
from kvsim.serve.metrics import Metrics
from kvsim.serve.received import StampingProtocol
from kvsim.serve.responses import read_responses
from kvsim.serve.tokens import tokens_from
from kvsim.sim.online import Listener, OnlineServing

MOST_BLOCKS = 4_000_000
"""Blocks whose content is remembered, at about 300 bytes each."""
MOST_BODY_BYTES = 16 * 1024 * 1024
SHUTDOWN_S = 3
"""How long answers under way may take once the server is told to end."""
IDLE_S = 75
"""How long a connection is kept that sends nothing."""


@dataclass(frozen=True)
class Pacing:
    """What kvsim's own flags say."""

    speed: float = 1.0
    """Simulated seconds a second."""
    responses: Path | None = None
    tokenizer: Path | None = None
    most_body_bytes: int = MOST_BODY_BYTES


def application(deployed: Deployed, front_end: FrontEnd, pacing: Pacing) -> tuple[uvicorn.Config, SimulatedEngine]:
    """The application, ready to be served, and the engine behind it. Raises a ``KvsimError``."""
    tokens = tokens_from(pacing.tokenizer)
    recorded = {} if pacing.responses is None else read_responses(pacing.responses)
    config, root = deployed.config, deployed.config.model.name
    names = front_end.served_model_names or (root,)
    seed = config.seed if front_end.seed is None else front_end.seed
    metrics = Metrics(names[0], len(deployed.instances), deployed.max_model_len)

    def build(listener: Listener) -> OnlineServing:
        return OnlineServing(deployed.plan, deployed.system, seed, listener)

    engine = SimulatedEngine(
        build,
        pacing.speed,
        tokens,
        Answers(tokens, recorded),
        MOST_BLOCKS,
        metrics,
        Limits(front_end.max_num_queued_reqs, front_end.max_num_queued_tokens),
    )
    metrics.watch(engine.state, engine.pump, cache_labels(deployed))
    said = Said(
        served=Served(
            names=names,
            checks_name=front_end.names_model,
            adapters=front_end.adapters,
            max_model_len=deployed.max_model_len,
            by_priority=any(one.settings.scheduling_policy == "priority" for one in deployed.instances),
        ),
        root=root,
        vllm_version=config.engine.vllm_version,
        vllm_config=vllm_config(deployed, names),
        kvsim_facts=kvsim_facts(deployed, pacing.speed),
        api_keys=front_end.api_keys,
        has_details=front_end.enable_prompt_tokens_details,
        forces_usage=front_end.enable_force_include_usage,
        has_request_ids=front_end.enable_request_id_headers,
        role=front_end.response_role,
        stream_interval=front_end.stream_interval,
        most_body_bytes=pacing.most_body_bytes,
    )
    served = uvicorn.Config(
        make_app(engine, said),
        log_level="warning",
        access_log=False,
        server_header=False,
        headers=[("Server", f"kvsim/{said.kvsim_facts['version']}")],
        timeout_graceful_shutdown=SHUTDOWN_S,
        timeout_keep_alive=IDLE_S,
        ws="none",
        lifespan="on",
        http=StampingProtocol,
    )
    return served, engine


def listening(host: str, port: int) -> socket.socket:
    """A socket at this place; port 0 is any that is free. Raises ``ConfigError`` where it cannot be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"--host {host}: {getattr(error, 'strerror', None) or 'no such host'}") from None
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen(2048)
    except OSError as error:
        found.close()
        raise ConfigError(f"--host {host} --port {port}: cannot listen there: {error.strerror}") from None
    return found


def serve(config: uvicorn.Config, at: socket.socket) -> None:
    """Serve until a signal ends it."""
    logging.getLogger("kvsim.serve").setLevel(logging.WARNING)
    # What has been built stays: collections, which stop everything, need not look through it again.
    gc.collect()
    gc.freeze()
    # Once it has ended by a signal the server raises that again, as for one who did not know how to end.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # uvloop's clock has milliseconds, and stands still while it is at work: no clock to pace by.
    with suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=event_loop) as runner:
        runner.run(uvicorn.Server(config).serve(sockets=[at]))
