"""A server that is asked over HTTP hits what the same prompts hit in a run."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kvsim.errors import KvsimError
from kvsim.experiments.bench import Bench

pytest.importorskip("fastapi", reason="the server's packages are not installed: kvsim[live]")
pytest.importorskip("aiohttp", reason="the client's package is not installed: kvsim[live]")

from kvsim.experiments.catalogue import served_sharing as study
from kvsim.serve.child import served


def test_every_request_hits_the_same_over_http(bench_of: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "REQUESTS", 16)
    monkeypatch.setattr(study, "CACHES", (study.Cache(320, policy="hybrid"),))
    answer = study.served_sharing(bench_of("served_sharing"))
    assert answer.differ == 0
    single, multi = answer.rows
    assert single.requests + multi.requests == answer.requests
    assert 0 < multi.served_hit_tokens == multi.run_hit_tokens < multi.prompt_tokens
    assert study.sharing_sentence(answer).startswith(f"all {answer.requests} requests that a server was sent")


def test_a_server_that_does_not_start_says_why() -> None:
    with pytest.raises(KvsimError, match=r"a server of one's own did not start: .*h1000"), served(["--gpu", "h1000"]):
        pass
