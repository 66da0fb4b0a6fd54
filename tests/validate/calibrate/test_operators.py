"""From a folder of operator times to a profile, and to the very times that were measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from kvsim.cli import main
from kvsim.config import load_config
from kvsim.errors import ConfigError
from kvsim.plan.plan import make_plan
from kvsim.steptime.assemble import MIXED_FACTOR, Shape, assemble
from kvsim.steptime.operators import read_operators, write_operators
from kvsim.validate.calibrate.operators import read_folder

HEAD = "layer,tokens,time_us\n"
DENSE = HEAD + "".join(
    f"{layer},{tokens},{base + 0.1 * tokens:.3f}\n"
    for layer, base in (("qkv_proj", 10), ("layernorm", 2), ("embedding", 3), ("act_fn", 4))
    for tokens in (1, 64, 1024)
)
PER_SEQUENCE = "layer,sequences,time_us\nlm_head,1,100\nlm_head,64,163\nsampler,1,20\nsampler,64,83\n"
ATTENTION = "prefill_chunk,kv_prefill,n_decode,kv_decode,time_us\n" + "".join(
    [f"0,0,{n},{k},{5 + 0.01 * n * k:.2f}\n" for n in (1, 64) for k in (16, 1024)]
    + [f"{c},{p},0,0,{5 + 0.001 * c * (p + c / 2):.2f}\n" for c in (16, 256) for p in (0, 512)]
)
MIXED = "".join(
    f"{c},0,{n},{k},{5 + 0.0005 * c * c + 0.02 * n * k + n:.2f}\n"
    for c in (16, 256)
    for n in (1, 64)
    for k in (16, 1024)
)
SKEW = (
    "n,pc,kv_big,kv_mean,t_mean_us,t_skew_us\n"
    "64,0,1000,500,50,75\n64,0,2000,500,60,105\n8,256,1000,500,50,100\n2,0,1000,500,10,10\n"
)
SHAPE = Shape(
    num_layers=10,
    kv_heads_per_gpu=8,
    num_sms=100,
    allreduce_s=None,
    straggler_s_per_token=0.0,
    host_s=1e-4,
    host_s_per_seq=1e-6,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "measured"
    made.mkdir()
    for name, text in (("dense", DENSE), ("per_sequence", PER_SEQUENCE), ("attention", ATTENTION)):
        (made / f"profile_{name}.csv").write_text(text, encoding="utf-8")
    return made


def test_operators_add_up_to_a_step(folder: Path) -> None:
    tables = assemble(read_folder(folder).operators, SHAPE)
    layer_us = (10 + 6.4) + 2 * (2 + 6.4) + (4 + 6.4)
    assert dict(tables.dense)[64.0] == pytest.approx(1e-4 + (10 * layer_us + 3 + 6.4) * 1e-6)
    assert dict(tables.head)[64.0] == pytest.approx((163 + 83) * 1e-6 + 64e-6)
    assert tables.decode_s[1][1] == pytest.approx(10 * (5 + 0.01 * 64 * 1024) * 1e-6)
    assert tables.prefill_s[1][1] == pytest.approx(10 * (5 + 0.001 * 256 * 640) * 1e-6)
    assert tables.mixed_s[0][1][1] == pytest.approx(MIXED_FACTOR * tables.decode_s[1][1])


def test_measured_mixed_steps_say_what_decodes_add(folder: Path) -> None:
    (folder / "profile_attention.csv").write_text(ATTENTION + MIXED, encoding="utf-8")
    tables = assemble(read_folder(folder).operators, SHAPE)
    assert tables.mixed_chunks == [16.0, 256.0]
    assert tables.mixed_s[1][1][1] == pytest.approx(10 * (0.02 * 64 * 1024 + 64) * 1e-6, rel=1e-4)


def test_stragglers_begin_where_the_heads_fill_the_gpu(folder: Path) -> None:
    (folder / "profile_skew.csv").write_text(SKEW, encoding="utf-8")
    tables = assemble(read_folder(folder).operators, SHAPE)
    assert tables.straggler_min_seqs == 20  # 0.8 x 2 x 100 multiprocessors / 8 heads
    assert tables.straggler_s_per_token == pytest.approx(10 * 0.04e-6)
    assert tables.straggler_mixed_s_per_token == pytest.approx(10 * 0.1e-6)


def test_losses_that_are_sums_over_passes_count_once(folder: Path) -> None:
    """Batches of one context that both tables hold take three times as long in the one: it sums three passes."""
    (folder / "profile_attention.csv").write_text(ATTENTION, encoding="utf-8")
    alone_us = 5 + 0.01 * 64 * 1024
    even = "".join(f"64,0,2048,1024,{sums * alone_us},{sums * alone_us + 30.72}\n" for sums in (3, 3.02))
    (folder / "profile_skew.csv").write_text(SKEW.splitlines()[0] + "\n" + even, encoding="utf-8")
    assert assemble(read_folder(folder).operators, SHAPE).straggler_s_per_token == pytest.approx(10 * 0.01e-6)


def test_experts_are_split_over_gpus(folder: Path) -> None:
    """64 tokens over two GPUs: 32 tokens' worth on each, and of its 32 experts those that 64 tokens touch."""
    text = "tokens,activated_experts,time_us\n" + "".join(f"{t},{e},{t + 10 * e}\n" for t in (1, 1024) for e in (1, 64))
    (folder / "profile_moe.csv").write_text(text, encoding="utf-8")
    operators = read_folder(folder).operators
    shape = replace(SHAPE, experts_on_rank=32.0, expert_share=1 / 16, expert_parallel=2)
    dense = dict(assemble(operators, shape).dense)
    experts_us = 32 + 10 * 32 * (1 - (1 - 1 / 16) ** 64)
    layer_us = (10 + 6.4) + 2 * (2 + 6.4) + experts_us
    assert dense[64.0] == pytest.approx(1e-4 + (10 * layer_us + 3 + 6.4) * 1e-6)
    member = dict(assemble(operators, replace(shape, is_member=True)).dense)
    assert dense[64.0] - member[64.0] == pytest.approx(10 * experts_us * 1e-6)
    summed = replace(shape, allreduce_s=lambda tokens: 1e-6 * tokens)
    whole, half = (
        dict(assemble(operators, replace(summed, is_member=True, remaining_allreduces=share)).dense)[64.0]
        for share in (1.0, 0.5)
    )
    assert whole - member[64.0] == pytest.approx(21 * 64e-6)
    assert whole - half == pytest.approx(5 * 64e-6)


def test_the_file_beside_a_profile_holds_the_same(folder: Path, tmp_path: Path) -> None:
    operators = read_folder(folder).operators
    with (tmp_path / "o.parquet").open("wb") as file:
        write_operators(operators, file)
    found = read_operators(tmp_path / "o.parquet")
    np.testing.assert_allclose(found.attention, operators.attention)
    for name, rows in operators.dense.items():
        np.testing.assert_allclose(found.dense[name], rows)
    (tmp_path / "broken.parquet").write_bytes(b"nothing")
    with pytest.raises(ConfigError, match=r"broken.parquet: not a file of operator times"):
        read_operators(tmp_path / "broken.parquet")


def test_a_tables_profile_is_what_was_measured(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    profile = tmp_path / "p.yaml"
    assert main(["calibrate", "operators", str(folder), "-o", str(profile)]) == 0
    loaded = load_config(overlay=profile, sets=["model.name=llama-3.1-8b", "engine.tensor_parallel_size=1"])
    steps = make_plan(loaded.config).step_time
    per_layer_us = (10 + 0.1) + 2 * (2 + 0.1) + (4 + 0.1)
    alone_s = (32 * per_layer_us + 3.1 + 100 + 20) * 1e-6 + 302e-6 + 32 * (5 + 0.16) * 1e-6
    assert steps.decode_alone_s(16) == pytest.approx(alone_s)
    assert any("tokens_per_step" in warning for warning in loaded.provenance.warnings)
    capsys.readouterr()


def test_a_fitted_profile_states_its_error(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    profile = tmp_path / "p.yaml"
    flags = ["--method", "fitted", "--model", "llama-3.2-1b", "--gpu", "b200-sxm"]
    assert main(["calibrate", "operators", str(folder), "-o", str(profile), *flags]) == 0
    tree = yaml.safe_load(profile.read_text(encoding="utf-8"))
    assert tree["fit_error"]["decode_steps_mape_pct"] < 10
    assert tree["validity"]["model"] == "llama-3.2-1b"
    assert load_config(overlay=profile).config.steptime.method == "fitted"
    capsys.readouterr()


def _without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / f"profile_{name}.csv").unlink()


def _with(name: str, text: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        (folder / f"profile_{name}.csv").write_text(text, encoding="utf-8")

    return spoil


BAD = {
    r"no file matches \*attention.csv": _without("attention"),
    r"2 files match \*dense.csv": _with("other_dense", DENSE),
    r"profile_dense.csv: no column 'time_us'": _with("dense", "layer,tokens\nx,1\n"),
    r"profile_dense.csv: line 2: time_us = 1e9: an operator takes from": _with("dense", HEAD + "x,1,1e9\n"),
    r"profile_dense.csv: line 2: time_us = -1: an operator": _with("dense", HEAD + "x,1,-1\n"),
    r"profile_dense.csv: line 2: tokens = 'many': must be a number": _with("dense", HEAD + "x,many,1\n"),
    r"profile_dense.csv: holds no measurement": _with("dense", HEAD + ""),
    r"profile_attention.csv: .*: two values or more": _with("attention", ATTENTION.split("\n")[0] + "\n0,0,1,16,5\n"),
    r"profile_dense.csv: x: one number of tokens": _with("dense", HEAD + "x,1,1\n"),
}


@pytest.mark.parametrize(("message", "spoil"), BAD.items(), ids=range(len(BAD)))
def test_bad_folders_are_refused_in_one_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture, message: str, spoil: Callable[[Path], None]
) -> None:
    spoil(folder)
    with pytest.raises(ConfigError, match=message):
        read_folder(folder)
    assert main(["calibrate", "operators", str(folder), "-o", str(tmp_path / "p.yaml")]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert not list(tmp_path.glob("p.*"))


def test_times_that_no_gpu_reaches_are_refused(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    profile = tmp_path / "p.yaml"
    flags = ["--method", "fitted", "--model", "llama-3.1-405b", "--gpu", "l40s"]
    assert main(["calibrate", "operators", str(folder), "-o", str(profile), *flags]) == 2
    error = capsys.readouterr().err.strip()
    assert "GB of weights at" in error
    assert "above the 864 GB/s of a l40s" in error
    assert not profile.exists()


ALONE_US, TILE_US = 5 + 0.01 * 64 * 1024, 64 * 64 * 1024 * (5 + 0.001 * 256 * 128) / (256**2 / 2)


@pytest.mark.parametrize(
    ("kernel", "beside_us"),
    [
        ({}, MIXED_FACTOR * ALONE_US),
        ({"decodes_apart": True}, ALONE_US),
        ({"decode_tile_rows": 64}, TILE_US),
        ({"decode_tile_rows": 1}, ALONE_US),
    ],
)
def test_decodes_beside_a_prefill_cost_what_their_kernel_makes_of_them(
    folder: Path, kernel: dict[str, int], beside_us: float
) -> None:
    """Without a measured mixed step: heads packed into tiles, a kernel of their own, or a tile a sequence and head."""
    found = assemble(read_folder(folder).operators, replace(SHAPE, **kernel))
    assert found.mixed_s[0][1][1] == pytest.approx(10 * beside_us * 1e-6, rel=1e-3)
