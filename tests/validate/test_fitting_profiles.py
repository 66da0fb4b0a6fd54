"""Profiles that would have fitted a load better than the one that was taken."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from client_files import bench, written

from kvsim.validate.clients.read import read_results
from kvsim.validate.clients.result import ClientResult
from kvsim.validate.compare_loads import compare_load
from kvsim.validate.fitting_profiles import Fitting, fitting_profiles
from kvsim.validate.predict_load import load_server, predict_load

QWEN = "qwen3-32b"
PROFILES = {degree: Path(f"h100_qwen3-32b_tp{degree}_bf16") for degree in (2, 4, 8)}


def load(tmp_path: Path, **values: object) -> ClientResult:
    (found,) = read_results(written(tmp_path / "r.json", bench(model_id="Qwen/Qwen3-32B", **values)))
    return found


def test_what_a_profile_predicts_is_known_as_its_own(tmp_path: Path) -> None:
    """Measured as the profile of four GPUs has it, and held against the one of eight."""
    asked = load(tmp_path)
    truth = predict_load(asked, load_server(PROFILES[4], QWEN, 4, "", []).plan)
    measured = replace(asked, tpot_mean_s=truth.tpot_mean_s)
    found = compare_load(measured, load_server(PROFILES[8], QWEN, 8, "", []))
    assert found.fitting.tried == 3
    assert found.fitting.near[0] == (PROFILES[4].name, pytest.approx(0.0, abs=0.1))
    (said,) = (warning for warning in found.warnings if "was it" in warning)
    assert said.startswith("TPOT is -") and "was it qwen3-32b on 8 x h100-sxm? Nearest " in said
    assert f"profile {PROFILES[4].name}: +0%" in said


def test_without_a_tpot_the_gaps_between_tokens_decide(tmp_path: Path) -> None:
    measured = replace(load(tmp_path), tpot_mean_s=None, itl_s={"mean": 10.0})
    found = compare_load(measured, load_server(PROFILES[8], QWEN, 8, "", []))
    (said,) = (warning for warning in found.warnings if "was it" in warning)
    assert said.startswith("mean ITL is -100% off")
    assert said.endswith("? None of the 3 other profiles of this model is within 15%")


def test_a_right_profile_tries_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, server = load(tmp_path), load_server(PROFILES[4], QWEN, 4, "", [])
    measured = replace(asked, tpot_mean_s=predict_load(asked, server.plan).tpot_mean_s)
    monkeypatch.setattr("kvsim.validate.compare_loads.fitting_profiles", lambda *_: pytest.fail("tried"))
    assert not any("was it" in warning for warning in compare_load(measured, server).warnings)


def test_a_model_that_was_measured_once_has_no_other(tmp_path: Path) -> None:
    server = load_server(None, "llama-3.2-1b", 1, "", [])
    assert fitting_profiles(load(tmp_path), server).words() == ""


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (Fitting(0, ()), ""),
        (Fitting(1, ()), " The one other profile of this model is not within 15%"),
        (Fitting(2, ()), " None of the 2 other profiles of this model is within 15%"),
        (Fitting(2, (("a", 2.4),)), " Nearest is profile a: +2%"),
        (Fitting(2, (("a", -2.4), ("b", 3.0))), " Nearest are profile a: -2% and profile b: +3%"),
    ],
)
def test_words(found: Fitting, words: str) -> None:
    assert found.words() == words
