"""Calibration profiles: bare or under ``overrides:``, what they say of themselves, where they hold."""

from pathlib import Path

import pytest

from kvsim.config import load_config, shipped_profiles

REFERENCE = Path("h100_70b_reference")
SECTIONS = "cluster: {eic: {read_bw_gbps: 100}}\npd_separation: {transfer: {rdma_bw_gbps: 12.5}}\n"
METADATA = (
    "name: mine\ndescription: d\nsources: {network: n}\nprovenance: p\nvalidity: {gpu: h100-sxm}\nfit_error: {e: 1}\n"
)


def overlay(folder: Path, text: str) -> Path:
    path = folder / "mine_profile.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_bare_and_under_overrides_are_the_same(tmp_path):
    bare = load_config(overlay=overlay(tmp_path, METADATA + SECTIONS))
    under = load_config(
        overlay=overlay(tmp_path, METADATA + "overrides:\n  " + SECTIONS.strip().replace("\n", "\n  ") + "\n")
    )
    assert bare == under
    assert (bare.config.cluster.eic.read_gb_per_s, bare.config.pd_separation.transfer.rdma_gb_per_s) == (100, 12.5)


def test_metadata_is_handed_on(tmp_path):
    path = overlay(tmp_path, METADATA + SECTIONS)
    found = load_config(overlay=path).provenance
    assert (found.name, found.description, found.provenance, found.path) == ("mine", "d", "p", path)
    assert (found.sources, found.validity, found.fit_error) == ({"network": "n"}, {"gpu": "h100-sxm"}, {"e": 1})


def test_a_profile_without_a_name_is_called_after_its_file(tmp_path):
    assert load_config(overlay=overlay(tmp_path, "overrides:\n")).provenance.name == "mine_profile"


def test_a_dated_profile_stays_text(tmp_path):
    assert load_config(overlay=overlay(tmp_path, "provenance: 2026-01-31\n")).provenance.provenance == "2026-01-31"


@pytest.mark.parametrize("name", ["h100_70b_reference", "h100_70b_reference.yaml"])
def test_shipped_profiles_are_found_by_name(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_config(overlay=Path(name)).provenance.name == "h100_70b_reference"


@pytest.mark.parametrize("name", shipped_profiles())
def test_every_shipped_profile_loads_without_complaint(name):
    """Where it says it holds: another model, degree or data type than its own is warned about."""
    validity = load_config(overlay=Path(name)).provenance.validity
    keys = {"model": "model.name", "weight_dtype": "model.weight_dtype", "kv_dtype": "model.kv_dtype"}
    keys |= {"tensor_parallel_size": "engine.tensor_parallel_size"}
    sets = [f"{key}={validity[name]}" for name, key in keys.items()] + ["engine.max_num_seqs=256"]
    sets.append("engine.max_num_batched_tokens=2048")
    loaded = load_config(overlay=Path(name), sets=sets)
    assert loaded.provenance.warnings == () and loaded.provenance.notes == ()
    if "reference" not in name:
        other = load_config(overlay=Path(name), sets=[*sets, "engine.tensor_parallel_size=16"])
        assert any("tensor_parallel_size" in warning for warning in other.provenance.warnings)
    assert loaded.provenance.sources and loaded.provenance.provenance and loaded.provenance.validity


def test_the_reference_meets_its_anchors():
    """Its own provenance: a decode step takes 14 to 18 ms, a prompt token 61 to 66 us."""
    loaded = load_config(overlay=REFERENCE)
    c = loaded.config.steptime.coefficients
    assert c is not None
    anchors = loaded.provenance.provenance["anchors"]

    def step_s(tokens, kv_tokens, seqs, work):
        gemm_s = max(c.w0_s + c.w1_s_per_token * tokens, c.p0_s + c.p1_s_per_token * tokens)
        comm_s = c.comm0_s + c.comm1_s_per_token * tokens
        attention_s = c.a_s_per_kv_token * kv_tokens + c.b_s_per_token2 * work
        return gemm_s + comm_s + attention_s + c.s_s_per_seq * seqs + c.const_s

    low, high = anchors["decode_step_ms"]
    for batch, context_tokens in ((16, 1000), (32, 1500), (64, 1000)):
        assert low <= step_s(batch, batch * context_tokens, batch, 0) * 1e3 <= high
    low, high = anchors["prompt_token_us"]
    assert low <= step_s(8192, 0, 4, 4 * 2048 * 1024) / 8192 * 1e6 <= high


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("engine.tensor_parallel_size=8", "holds for tensor_parallel_size 4; this run has 8"),
        ("model.name=llama-3.1-8b", "holds for model llama-3.1-70b; this run has llama-3.1-8b"),
        ("hardware.gpu=b200-sxm", "holds for gpu h100-sxm; this run has b200-sxm"),
        ("model.weight_dtype=fp8", "holds for weight_dtype bf16; this run has fp8"),
    ],
)
def test_leaving_the_validity_is_said(change, words):
    (warning,) = load_config(overlay=REFERENCE, sets=[change]).provenance.warnings
    assert words in warning


def test_validity_may_list_several(tmp_path):
    path = overlay(tmp_path, "validity: {tensor_parallel_size: [2, 4]}")
    assert load_config(overlay=path).provenance.warnings == ()
    (warning,) = load_config(overlay=path, sets=["engine.tensor_parallel_size=8"]).provenance.warnings
    assert "2 or 4" in warning
