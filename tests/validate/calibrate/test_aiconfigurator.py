"""From AIConfigurator's tables to the operators of one instance, on tables made by formulas."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from kvsim.cli import main
from kvsim.config import load_config
from kvsim.errors import ConfigError
from kvsim.plan.instance import spec_of
from kvsim.spec import WEIGHT_BYTES, InstanceSpec
from kvsim.validate.calibrate.aiconfigurator import read_folders
from kvsim.validate.calibrate.measured_kernels import SHARED_HEADS_SHARE
from kvsim.validate.calibrate.operators import MeasuredOperators

KERNEL_MS = 0.002
"""Of any kernel with next to nothing to do."""
TOKENS, WIDTHS = (1, 16, 256, 4096), (32, 1024, 8192, 65536, 262144)
LENGTHS = (1, 64, 1024, 8192)
BYTES_PER_MS = 3.35e9
Scale = Callable[[str], float]


def product_ms(m: int, n: int, k: int) -> float:
    return KERNEL_MS + max(n * k * 2 / BYTES_PER_MS, 2 * m * n * k / 0.9e12)


def tables(folder: Path, version: str = "0.19.0", scale: float = 1.0, seqs: tuple[int, ...] = (1, 16, 256)) -> Path:
    """Tables of an H100: products take what reading their weights does, attention what reading its KV does."""
    folder.mkdir(parents=True)
    said = {"version": version}
    products = [
        {"gemm_dtype": "bfloat16", "m": m, "n": n, "k": k, "latency": scale * product_ms(m, n, k)}
        for m in TOKENS
        for n in WIDTHS
        for k in WIDTHS
    ]
    heads = {"num_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "kv_cache_dtype": "bfloat16", "window_size": 0}
    prefill = [
        heads | said | {"batch_size": 1, "isl": tokens, "latency": scale * (0.01 + 1e-7 * tokens**2)}
        for tokens in LENGTHS
    ]
    decode = [
        heads | said | {"batch_size": n, "step": k, "latency": scale * (0.01 + n * k * 4096 / BYTES_PER_MS)}
        for n in seqs
        for k in LENGTHS
    ]
    moe = [
        {
            "moe_dtype": "bfloat16", "num_tokens": tokens, "hidden_size": 4096, "inter_size": 14336, "topk": 2,
            "num_experts": 8, "moe_tp_size": 2, "moe_ep_size": 1, "distribution": "balanced",
            "latency": 0.1 * min(8, 2 * tokens) + 0.001 * tokens,
        }
        for tokens in (1, 2, 4, 8, 64)
    ]  # fmt: skip
    reduce = [
        {"num_gpus": 2, "message_size": size, "latency": 0.004, "backend": "vllm_graph"} for size in (4096, 1 << 22)
    ]
    for name, rows in (
        ("gemm_perf", products),
        ("context_attention_perf", prefill),
        ("generation_attention_perf", decode),
        ("moe_perf", moe),
        ("custom_allreduce_perf", reduce),
    ):
        pl.DataFrame(rows).write_parquet(folder / f"{name}.parquet")
    return folder


def halve(folder: Path) -> None:
    """Attention as one of two GPUs has it."""
    for name in ("context_attention_perf", "generation_attention_perf"):
        path = folder / f"{name}.parquet"
        frame = pl.read_parquet(path)
        frame.with_columns(num_heads=pl.lit(16), num_key_value_heads=pl.lit(4)).write_parquet(path)


def instance(model: str = "llama-3.1-8b", degree: int = 1, gpu: str = "h100-sxm") -> InstanceSpec:
    sets = [f"model.name={model}", f"engine.tensor_parallel_size={degree}", f"hardware.gpu={gpu}"]
    return spec_of(load_config(sets=sets, mode="instance").config)


def decodes_s(found: MeasuredOperators) -> dict[tuple[float, float], float]:
    """By sequences and context."""
    rows = found.operators.attention
    return {(n, k): time_s for _, _, n, k, time_s in rows[rows[:, 2] > 0].tolist()}


def test_passes_take_as_long_as_the_shortest_kernel(tmp_path: Path) -> None:
    dense = read_folders([tables(tmp_path / "a")], instance()).operators.dense
    shortest_s = (KERNEL_MS + 32 * 32 * 2 / BYTES_PER_MS) * 1e-3
    assert dense["rotary_emb"][0, 1] == pytest.approx(shortest_s + 2 * 40 * 128 * 2 / (0.8 * 3350e9))
    ideal_s = 6144 * 4096 * 2 / 3350e9
    assert ideal_s < dense["qkv_proj"][0, 1] < 1.4 * ideal_s + KERNEL_MS * 1e-3


def test_several_versions_are_taken_in_the_median(tmp_path: Path) -> None:
    folders = [tables(tmp_path / str(scale), scale=scale) for scale in (1.0, 1.2, 3.0)]
    found, middle = read_folders(folders, instance()).operators, read_folders([folders[1]], instance()).operators
    assert found.dense["qkv_proj"] == pytest.approx(middle.dense["qkv_proj"])
    assert found.attention == pytest.approx(middle.attention)


def test_a_version_that_measured_next_to_nothing_says_nothing(tmp_path: Path) -> None:
    whole = tables(tmp_path / "whole", seqs=tuple(range(1, 41)))
    bare = tables(tmp_path / "bare", scale=5.0, seqs=(1,))
    alone, both = decodes_s(read_folders([whole], instance())), decodes_s(read_folders([whole, bare], instance()))
    assert alone == both


def test_what_one_version_lacks_another_has(tmp_path: Path) -> None:
    first, second = tables(tmp_path / "a"), tables(tmp_path / "b")
    (first / "custom_allreduce_perf.parquet").unlink()
    spec = instance("mixtral-8x7b", 2)
    halve(first)
    halve(second)
    assert read_folders([first, second], spec).operators.dense["allreduce"][0, 1] == pytest.approx(4e-6)
    with pytest.raises(ConfigError, match="custom_allreduce_perf"):
        read_folders([first], spec)


def test_writing_kv_is_taken_out_of_older_tables(tmp_path: Path) -> None:
    older = decodes_s(read_folders([tables(tmp_path / "older", "0.14.0")], instance()))
    newer = decodes_s(read_folders([tables(tmp_path / "newer", "0.15.0")], instance()))
    shortest_s = (KERNEL_MS + 32 * 32 * 2 / BYTES_PER_MS) * 1e-3
    assert newer[1, 2] - older[1, 2] == pytest.approx(shortest_s)


def test_kv_is_read_from_memory_whatever_the_benchmark_found_in_its_cache(tmp_path: Path) -> None:
    """16 sequences: 1,024 tokens fill 67 MB, which 50 MiB do not hold; 64 tokens were measured in the cache."""
    folder = tables(tmp_path / "a")
    path = folder / "generation_attention_perf.parquet"
    frame = pl.read_parquet(path)
    in_cache = pl.when(pl.col("step") == 64).then(0.01).otherwise(pl.col("latency"))
    frame.with_columns(latency=in_cache).write_parquet(path)
    spec = instance()
    found = decodes_s(read_folders([folder], spec))
    kernel_s = 0.01e-3 + 4096 / 3350e9
    served_s = {key: kernel_s + key[0] * (key[1] - 1) * 4096 / (SHARED_HEADS_SHARE * 3350e9) for key in found}
    for key in ((16, 65), (16, 1025), (256, 1025)):
        assert found[key] == pytest.approx(served_s[key], rel=1e-3)
    bare = replace(spec, gpu=replace(spec.gpu, cache_bytes=0.0))
    assert decodes_s(read_folders([folder], bare))[16, 65] == pytest.approx(served_s[16, 65], rel=1e-3)


def test_heads_of_their_own_are_read_as_measured_and_fold_into_sequences(tmp_path: Path) -> None:
    """32 KV heads that nobody shares: four times as many sequences of eight."""
    folder = tables(tmp_path / "a", seqs=(4, 64, 1024))
    for name in ("context_attention_perf", "generation_attention_perf"):
        frame = pl.read_parquet(folder / f"{name}.parquet")
        own = (8, 8) if name.startswith("generation") else (32, 32)
        keys = zip(("num_heads", "num_key_value_heads"), own, strict=True)
        frame.with_columns(**{key: pl.lit(value) for key, value in keys}).write_parquet(folder / f"{name}.parquet")
    found = decodes_s(read_folders([folder], instance("llama-2-7b")))
    assert found[16, 1025] == pytest.approx(0.01e-3 + 64 * 1024 * 4096 / 3350e9)
    assert {n for n, _ in found} == {1, 16, 256}


def test_longer_contexts_take_what_reading_them_does(tmp_path: Path) -> None:
    folder = tables(tmp_path / "a")
    path = folder / "generation_attention_perf.parquet"
    frame = pl.read_parquet(path)
    frame.filter((pl.col("batch_size") < 256) | (pl.col("step") < 8192)).write_parquet(path)
    found = decodes_s(read_folders([folder], instance()))
    more_s = 256 * (8192 - 1024) * 4096 / (SHARED_HEADS_SHARE * 3350e9)
    assert found[256, 8193] - found[256, 1025] == pytest.approx(more_s, rel=1e-3)


def test_experts_are_touched_as_if_at_random(tmp_path: Path) -> None:
    """Dealt out evenly, four tokens touch all eight experts; at random they touch 8 (1 - (3/4)^4) of them."""
    from kvsim.validate.calibrate.measured_experts import expert_rows

    folder = tables(tmp_path / "a")
    rows = {tokens: (touched, time_s) for tokens, touched, time_s in expert_rows(
        pl.read_parquet(folder / "moe_perf.parquet"), instance("mixtral-8x7b", 2)
    ).tolist()}  # fmt: skip
    touched = 8 * (1 - 0.75**4)
    assert rows[4] == (pytest.approx(touched), pytest.approx((0.1 * touched + 0.001 * touched / 2) * 1e-3))
    assert rows[64][1] == pytest.approx((0.1 * 8 + 0.001 * 64) * 1e-3, rel=1e-3)
    assert np.all(np.diff([time_s for _, time_s in rows.values()]) >= 0)


@pytest.mark.parametrize(
    ("model", "degree", "said"),
    [
        ("deepseek-v3", 8, "only models with ordinary KV heads"),
        ("qwen3-32b", 2, "no attention of 32 heads on 4 KV heads of 128 in bfloat16"),
    ],
)
def test_what_was_not_measured_is_refused(tmp_path: Path, model: str, degree: int, said: str) -> None:
    spec = replace(instance(model, degree), weight_dtype="bf16")
    with pytest.raises(ConfigError, match=said):
        read_folders([tables(tmp_path / "a")], spec)


def test_experts_that_were_not_measured_are_named(tmp_path: Path) -> None:
    from kvsim.validate.calibrate.measured_experts import expert_rows

    frame = pl.read_parquet(tables(tmp_path / "a") / "moe_perf.parquet")
    with pytest.raises(ConfigError, match="no 128 experts of 2048 x 768 in bfloat16, 8 a token, over 1 GPUs"):
        expert_rows(frame, instance("qwen3-30b-a3b"))


def test_a_folder_of_something_else_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["calibrate", "aiconfigurator", str(tmp_path), "-o", str(tmp_path / "p.yaml"), "--model", "llama-3.1-8b"]
    assert main([*command, "--gpu", "h100-sxm"]) == 2
    assert "no gemm_perf.parquet in it" in capsys.readouterr().err
    assert not (tmp_path / "p.yaml").exists()


def test_a_profile_of_two_versions_names_both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [str(tables(tmp_path / "v0", "0.14.0")), str(tables(tmp_path / "v1"))]
    command = ["calibrate", "aiconfigurator", *folders, "-o", str(tmp_path / "p.yaml"), "--model", "llama-3.1-8b"]
    assert main([*command, "--gpu", "h100-sxm"]) == 0
    text = (tmp_path / "p.yaml").read_text(encoding="utf-8")
    assert "v0/gemm_perf.parquet" in text and "v1/gemm_perf.parquet" in text
    assert "off the operator times by decode" in capsys.readouterr().out


def changed(folder: Path, name: str, **columns: pl.Expr | int | str) -> None:
    """Rows of a table again, with other values in some columns, beside those that are there."""
    path = folder / f"{name}.parquet"
    frame = pl.read_parquet(path)
    others = {key: pl.lit(value) if isinstance(value, int | str) else value for key, value in columns.items()}
    pl.concat([frame, frame.with_columns(**others)], how="vertical_relaxed").write_parquet(path)


def test_products_are_those_of_the_type_of_the_weights(tmp_path: Path) -> None:
    folder = tables(tmp_path / "a")
    changed(folder, "gemm_perf", gemm_dtype="int4_wo", latency=pl.col("latency") * 0.5)
    wide, narrow = (
        read_folders([folder], replace(instance(), weight_dtype=dtype)).operators for dtype in ("bf16", "int4")
    )
    for name in ("qkv_proj", "gate_up_proj"):
        assert narrow.dense[name][:, 1] == pytest.approx(wide.dense[name][:, 1] / 2, rel=0.2)
    assert narrow.per_sequence["lm_head"] == pytest.approx(wide.per_sequence["lm_head"])


def test_a_dense_model_in_a_type_that_was_not_measured_is_refused(tmp_path: Path) -> None:
    spec = replace(instance(), weight_dtype="int4")
    with pytest.raises(ConfigError, match=r"gemm_perf\.parquet: no products in int4_wo"):
        read_folders([tables(tmp_path / "a")], spec)


def test_beside_measured_experts_products_go_by_arithmetic(tmp_path: Path) -> None:
    """Products in int4 reach the share of their roofline that bf16 ones do; experts are those that were measured."""
    folder = tables(tmp_path / "a")
    changed(folder, "moe_perf", moe_dtype="int4_wo", latency=pl.col("latency") * 3)
    halve(folder)
    spec = instance("mixtral-8x7b", 2)
    wide, found = read_folders([folder], spec), read_folders([folder], replace(spec, weight_dtype="int4"))
    assert found.operators.moe[:, 2] == pytest.approx(3 * wide.operators.moe[:, 2])
    assert found.method.endswith(", as int4 products besides the experts'") and wide.method.endswith("by arithmetic")
    one, other = wide.operators.dense["qkv_proj"], found.operators.dense["qkv_proj"]
    bytes_ratio = (3072 * 4096 * WEIGHT_BYTES["int4"] + 2 * (3072 + 4096)) / (2 * (3072 * 4096 + 3072 + 4096))
    assert other[0, 1] / one[0, 1] == pytest.approx(bytes_ratio)
    assert other[-1, 1] == pytest.approx(one[-1, 1])


def test_experts_are_of_their_own_type(tmp_path: Path) -> None:
    from kvsim.validate.calibrate.measured_experts import expert_rows

    shapes = {"hidden_size": 2880, "inter_size": 2880, "topk": 4, "num_experts": 32, "moe_tp_size": 1}
    folder = tables(tmp_path / "a")
    changed(folder, "moe_perf", moe_dtype="w4a16_mxfp4", **shapes)
    rows = expert_rows(pl.read_parquet(folder / "moe_perf.parquet"), instance("gpt-oss-20b"))
    assert len(rows) and rows[0, 0] == 1


def test_times_that_no_other_table_bears_out_are_left_out(tmp_path: Path) -> None:
    from kvsim.validate.calibrate.measured_experts import LEFT_OUT, expert_rows

    path = tables(tmp_path / "a") / "moe_perf.parquet"
    pl.read_parquet(path).with_columns(kernel_source=pl.lit("vllm_fused_moe")).write_parquet(path)
    spec = instance("mixtral-8x7b", 2)
    rows = expert_rows(pl.read_parquet(path), spec)
    changed(path.parent, "moe_perf", kernel_source=LEFT_OUT, latency=pl.col("latency") / 2)
    assert expert_rows(pl.read_parquet(path), spec) == pytest.approx(rows)
    changed(path.parent, "moe_perf", kernel_source="sglang_marlin_moe", latency=pl.col("latency") / 4)
    assert (expert_rows(pl.read_parquet(path), spec)[:, 2] < rows[:, 2]).all()


def test_half_of_the_layers_look_back_a_window(tmp_path: Path) -> None:
    """Attention is that of a layer in the mean; KV within the window is all that is read."""
    folder = tables(tmp_path / "a")
    for name in ("context_attention_perf", "generation_attention_perf"):
        path = folder / f"{name}.parquet"
        frame = pl.read_parquet(path).with_columns(num_heads=pl.lit(64), head_dim=pl.lit(64))
        within = frame.with_columns(window_size=pl.lit(128), latency=pl.lit(0.01))
        pl.concat([frame, within], how="vertical_relaxed").write_parquet(path)
    changed(
        folder, "moe_perf", moe_dtype="w4a16_mxfp4", hidden_size=2880, inter_size=2880, topk=4, num_experts=32,
        moe_tp_size=1,
    )  # fmt: skip
    spec = instance("gpt-oss-20b")
    found = read_folders([folder], spec).operators.attention
    prompts = {(c, p): time_s for c, p, n, _, time_s in found.tolist() if n == 0}
    assert prompts[8192, 0] == pytest.approx(1e-3 * (0.01 + 1e-7 * 8192**2 + 0.01) / 2)
    pl.read_parquet(folder / "context_attention_perf.parquet").filter(pl.col("window_size") == 0).write_parquet(
        folder / "context_attention_perf.parquet"
    )
    with pytest.raises(ConfigError, match="no attention of 64 heads on 8 KV heads of 64 in bfloat16 within 128 tokens"):
        read_folders([folder], spec)


def test_more_context_than_a_window_is_not_read(tmp_path: Path) -> None:
    from kvsim.validate.calibrate.measured_kernels import _uncached

    spec = instance("gpt-oss-20b")
    rows = np.array([(n, float(k), 1e-5) for n in (1, 1024) for k in (1, 128, 8192)])
    times = {(n, k): time_s for n, k, time_s in _uncached(rows, spec, 128).tolist()}
    assert times[1024, 8192] == times[1024, 128] > 1e-5
    read_s = 1024 * 128 * 2 * 8 * 64 * 2 / (SHARED_HEADS_SHARE * 3350e9)
    assert times[1024, 128] == pytest.approx(1e-5 + read_s)
    whole = {(n, k): time_s for n, k, time_s in _uncached(rows, spec, 0).tolist()}
    assert whole[1024, 8192] == pytest.approx(1e-5 + 64 * read_s)
