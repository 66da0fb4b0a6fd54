"""What the simulated backend answers: every request counts, from the first arrival on."""

from __future__ import annotations

import numpy as np
import pytest

from kvsim.errors import WorkloadError
from kvsim.lab.backend import Asked
from kvsim.lab.simulated import Simulated
from kvsim.lab.words import H100, VLLM_LLAMA

ASKED = Asked(line=VLLM_LLAMA, gpu=H100, workload="in=256,out=8-16", requests=20, keeps_steps=True)


def test_all_at_once_is_a_rate_without_end() -> None:
    (served,) = Simulated(3).serve([ASKED])
    assert ASKED.rate_word == "inf" and set(served.requests["arrival_s"]) == {0.0}
    assert len(served.requests) == 20 and served.hit_share == 0 and served.kv_tokens == 16 * 28_239
    assert served.duration_s == served.requests["finish_s"].max()
    assert served.output_tokens_per_s == served.requests["output_tokens"].sum() / served.duration_s


def test_gaps_are_those_between_all_tokens() -> None:
    (served,) = Simulated(3).serve([ASKED])
    assert served.gaps_s is not None and len(served.gaps_s) == (served.requests["output_tokens"] - 1).sum()
    assert np.quantile(served.gaps_s[:, 1], 0.99) * 1e3 == pytest.approx(served.itl_ms.p99, rel=0.02)
    # What lies between first and last tokens.
    later_ms = (served.e2e_ms - served.ttft_ms).sum()
    assert served.gaps_s[:, 1].sum() * 1e3 == pytest.approx(later_ms)
    assert np.all(np.diff(served.gaps_s[:, 0]) >= 0)


def test_servers_are_served_the_same() -> None:
    other = Asked(line=f"{VLLM_LLAMA} --max-num-seqs 4", gpu=H100, workload=ASKED.workload, requests=20, rate_per_s=5)
    (first, second), (again,) = Simulated(3).serve([other, other]), Simulated(4).serve([other])
    assert first.requests.equals(second.requests)
    assert first.requests["arrival_s"].to_list() != again.requests["arrival_s"].to_list()


def test_a_workload_that_nobody_knows_is_one_line() -> None:
    with pytest.raises(WorkloadError, match="workload 'chatt' is unknown; did you mean 'chat'"):
        Simulated(3).serve([Asked(line=VLLM_LLAMA, gpu=H100, workload="chatt", requests=1)])
