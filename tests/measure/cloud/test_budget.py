"""What a run costs at most, against sums by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvsim.errors import ConfigError
from kvsim.measure.cloud.budget import limits_for
from kvsim.measure.cloud.gpu_probe import difference, read_gpus
from kvsim.measure.cloud.prices import GPUS, Machine, gpu_of

H100_USD_PER_S = 0.001097 + 8 * 0.0000131 + 64 * 0.00000222
PREPARE_USD = (2 * 300 + 1800 + 2 + 30) * (4 * 0.0000131 + 16 * 0.00000222)


def h100(**changed: object) -> Machine:
    return Machine(**{"cores": 8, "memory_gib": 64, "gpu": gpu_of("h100"), "gpus": 1} | changed)  # type: ignore[arg-type]


def test_a_machine_is_paid_for_by_gpus_cores_and_memory() -> None:
    assert h100().usd_per_s == pytest.approx(H100_USD_PER_S)
    assert h100(gpus=4).usd_per_s == pytest.approx(H100_USD_PER_S + 3 * 0.001097)
    assert h100(region="us-east").usd_per_s == pytest.approx(2.5 * H100_USD_PER_S)


def test_the_bound_is_every_time_out_run_out() -> None:
    limits = limits_for(h100(), 600.0, 100.0, prepares=True)
    assert (limits.run_s, limits.prepare_s, limits.is_cut) == (600, 1800, False)
    expected = (2 * 300 + 2 + 30 + 600) * H100_USD_PER_S + PREPARE_USD
    assert limits.usd(h100()) == pytest.approx(expected, rel=1e-9)


def test_money_ends_the_work_where_it_pays_for_less() -> None:
    limits = limits_for(h100(), 6000.0, 2.0, prepares=True)
    assert limits.is_cut
    assert limits.usd(h100()) <= 2.0 < limits.usd(h100()) + H100_USD_PER_S


def test_too_little_to_begin_says_what_is_enough() -> None:
    with pytest.raises(ConfigError, match=r"--max-usd 1: .* is begun with (\d\.\d\d) or more") as raised:
        limits_for(h100(), 6000.0, 1.0, prepares=True)
    enough = float(str(raised.value).split("with ")[1].split()[0])
    assert limits_for(h100(), 6000.0, enough, prepares=True).usd(h100()) <= enough
    with pytest.raises(ConfigError):
        limits_for(h100(), 6000.0, enough - 0.01, prepares=True)


@given(
    st.sampled_from(sorted(GPUS)), st.integers(1, 4), st.floats(1, 1e5), st.floats(0.01, 1e3), st.booleans(),
    st.sampled_from([None, "us"]),
)  # fmt: skip
def test_no_run_can_cost_more_than_was_said(
    name: str, gpus: int, wanted_s: float, max_usd: float, prepares: bool, region: str | None
) -> None:
    machine = Machine(8, 64, gpu_of(name), gpus, region)
    try:
        limits = limits_for(machine, wanted_s, max_usd, prepares=prepares)
    except ConfigError:
        return
    assert limits.usd(machine) <= max_usd * (1 + 1e-9)
    assert limits.run_s <= math.ceil(wanted_s)


def test_gpus_by_name() -> None:
    assert gpu_of("A100-80GB") is gpu_of("a100-80")
    assert [gpu.asked for gpu in GPUS.values()] == [
        "T4", "L4", "A10", "L40S", "A100-40GB", "A100-80GB", "H100!", "H200", "B200",
    ]  # fmt: skip
    with pytest.raises(ConfigError, match="did you mean 'h100'"):
        gpu_of("h10")
    with pytest.raises(ConfigError, match="puts 1 to 4 of A10 in a container"):
        Machine(8, 64, gpu_of("a10"), 5)


SMI = "NVIDIA H100 80GB HBM3, 81559, 570.86.15, 9.0, 1980, 2619, 700.00\n"


def test_what_nvidia_smi_prints() -> None:
    (seen,) = read_gpus(SMI)
    assert (seen.name, seen.memory_mib, seen.capability, seen.power_w) == ("NVIDIA H100 80GB HBM3", 81559, "9.0", 700)
    assert read_gpus("Tesla T4, 15360, 535, 7.5, [N/A], 5001, 70")[0].sm_mhz is None
    for text in ("", "NVIDIA-SMI has failed\n"):
        with pytest.raises(ConfigError, match="nvidia-smi"):
            read_gpus(text)


def test_another_gpu_than_was_asked_for_is_said() -> None:
    assert difference(gpu_of("h100"), 1, read_gpus(SMI)) is None
    assert "got 1: NVIDIA H200" in str(difference(gpu_of("h100"), 1, read_gpus(SMI.replace("H100", "H200"))))
    assert "asked for 2 x H100, got 1" in str(difference(gpu_of("h100"), 2, read_gpus(SMI)))
    names = {
        "t4": "Tesla T4", "l4": "NVIDIA L4", "a10": "NVIDIA A10", "l40s": "NVIDIA L40S",
        "a100-40": "NVIDIA A100-SXM4-40GB", "a100-80": "NVIDIA A100 80GB PCIe", "h200": "NVIDIA H200",
        "b200": "NVIDIA B200",
    }  # fmt: skip
    for asked, gpu in GPUS.items():
        for there, name in names.items():
            seen = read_gpus(SMI.replace("NVIDIA H100 80GB HBM3", name))
            assert (difference(gpu, 1, seen) is None) == (asked == there), (asked, there)
