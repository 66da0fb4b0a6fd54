"""The explorer: what a file is, the index's rows, bad input, equal bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kvsim._version import __version__
from kvsim.cli.entry import main
from kvsim.errors import KvsimError
from kvsim.explore.collect import collect
from kvsim.explore.site import detail_of, index_of, write_site

PARTS = {"queue": 4.0, "prefill": 6.0}


def lab(name: str = "w99", version: str = __version__, ttft_ms: float = 30.0) -> dict[str, Any]:
    asked = {"line": "vllm serve Qwen/Qwen3-8B", "gpu": "h100-sxm", "workload": "in=8,out=2", "requests": 7}
    return {
        "lab": name,
        "question": "Does it </script> matter?",
        "conclusion": "it does",
        "version": version,
        "backend": "simulated",
        "preset": "smoke",
        "seed": 1,
        "rows": [
            {"caching": True, "rate": 2, "ttft_mean_ms": ttft_ms, "hit_share": 0.5},
            {"caching": False, "rate": 2, "ttft_mean_ms": {"mean": 40.0, "half_width": 1.0}, "hit_share": 0.0},
        ],
        "beside": [],
        "asked": [asked | {"rate_per_s": 2.0, "concurrency": None}],
    }


def loads() -> dict[str, Any]:
    figures = {"ttft_s": {"mean": 0.02}, "itl_s": {}, "e2e_s": {}, "tpot_mean_s": 0.01}
    rates = {"requests_per_s": 4.0, "output_tokens_per_s": 8.0}
    sent = {"name": "one", "client": "vllm", "model": "m", "assumed": [], "requests": 5}
    sent |= {"prompt_tokens_mean": 9.0, "output_tokens_mean": 2.0}
    predicted = figures | rates | {"ttft_s": {"mean": 0.03}}
    load = {
        "measured": sent | figures | rates,
        "predicted": predicted,
        "warnings": [],
        "error_pct": {"ttft_mean": 50.0},
    }
    return {"profile": None, "warnings": [], "loads": [load]}


def put(path: Path, tree: object) -> Path:
    path.write_text(json.dumps(tree))
    return path


def test_rows_of_a_lab_are_entries(tmp_path: Path) -> None:
    path = put(tmp_path / "any.name", lab())
    (found,) = collect([path], tmp_path / "site").artefacts
    assert found.kind == "lab"
    on, off = found.entries
    assert (on.cache, off.cache) == ("on", "off")
    assert (on.model, on.gpu, on.workload, on.figures.requests) == ("Qwen/Qwen3-8B", "h100-sxm", "in=8,out=2", 7)
    assert (on.figures.ttft_mean_ms, off.figures.ttft_mean_ms) == (30.0, 40.0)
    assert (on.figures.hit_rate, on.figures.e2e_mean_ms) == (0.5, None)


def test_a_validation_has_both_sides_and_its_error(tmp_path: Path) -> None:
    (found,) = collect([put(tmp_path / "v.json", loads())], tmp_path / "site").artefacts
    assert found.entries[0].figures.off_pct == 50.0
    assert ["one", "TTFT mean (ms)", 20.0, 30.0] in found.blocks[0]["rows"]


def test_a_sweep_is_its_points_means(tmp_path: Path) -> None:
    says = {"fixed": {"server": "vllm serve Qwen/Qwen3-8B", "gpu": "h100"}, "set": {}, "keys": {"rate": [1, 2]}}
    head = {"kvsim_sweep": 1, "sweep": "x", "made_by": f"kvsim {__version__} (a) on NumPy", "runs": 4, "says": says}
    rows = [
        {"run": n, "id": str(n), "point": n // 2, "replication": n % 2, "seed": n, "rate": n // 2 + 1, "error": None}
        | {"unified.ttft_mean_ms": 10.0 * (n + 1), "unified.prefix_hit_rate": None}
        for n in range(4)
    ]
    lines = [json.dumps(head, separators=(",", ":")), *map(json.dumps, rows)]
    (tmp_path / "runs.jsonl").write_text("\n".join(lines) + "\n")
    (found,) = collect([tmp_path], tmp_path / "site").artefacts
    assert [(each.name, each.figures.ttft_mean_ms) for each in found.entries] == [("rate 1", 15.0), ("rate 2", 35.0)]
    assert found.entries[0].model == "Qwen/Qwen3-8B"


def test_requests_have_distributions_and_add_up_over_time(tmp_path: Path) -> None:
    head = "system,request_id,arrival_s,finish_s,prompt_tokens,hit_tokens,ttft_s,tpot_s,e2e_s,measured"
    rows = ["pd,0,0.0,2.0,10,5,0.5,0.1,2.0,true", "pd,1,1.0,3.0,10,0,1.5,0.1,2.0,true", "pd,2,1.0,3.0,10,9,9,9,9,false"]
    (tmp_path / "r.csv").write_text("\n".join([head, *rows]) + "\n")
    (found,) = collect([tmp_path], tmp_path / "site").artefacts
    (entry,) = found.entries
    assert (entry.figures.requests, entry.figures.ttft_mean_ms, entry.figures.hit_rate) == (2, 1000.0, 0.25)
    assert dict(entry.curves["TTFT"])[50.0] == pytest.approx(1000.0)
    (_, times_s, values) = found.blocks[0]["series"][0]
    assert sum(values) * (times_s[1] - times_s[0]) == pytest.approx(6.0, rel=1e-2)


def test_what_is_none_is_named_and_the_rest_is_shown(tmp_path: Path) -> None:
    put(tmp_path / "good.json", lab())
    put(tmp_path / "copy.json", lab())
    put(tmp_path / "old.json", lab(version="0.0.1"))
    put(tmp_path / "other.json", {"a": 1})
    put(tmp_path / "less.json", lab() | {"asked": [{"line": "vllm serve x"}]})
    (tmp_path / "cut.json").write_text('{"lab": ')
    (tmp_path / "notes.txt").write_text("no JSON")
    found = collect([tmp_path], tmp_path / "site")
    said = "\n".join(found.warnings())
    assert len(found.artefacts) == 1
    assert "0.0.1" in said and all(name in said for name in ("old", "other", "less", "cut"))
    assert "notes" not in said


@pytest.mark.parametrize("name", ["missing.json", "other.json", "old.json", "notes.txt"])
def test_nothing_to_show_is_one_line_and_exit_code_2(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path / "other.json", {"a": 1})
    put(tmp_path / "old.json", lab(version="0.0.1"))
    (tmp_path / "notes.txt").write_text("no JSON")
    assert main(["explore", str(tmp_path / name), "-o", str(tmp_path / "site")]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert not (tmp_path / "site").exists()


def test_only_a_site_is_replaced(tmp_path: Path) -> None:
    put(tmp_path / "good.json", lab())
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "kept.txt").write_text("x")
    assert main(["explore", str(tmp_path / "good.json"), "-o", str(mine)]) == 2
    assert main(["explore", str(tmp_path / "good.json"), "-o", str(tmp_path)]) == 2
    assert (mine / "kept.txt").read_text() == "x"
    assert main(["explore", str(tmp_path / "good.json")]) == 2


def test_the_same_artefacts_give_the_same_bytes(tmp_path: Path) -> None:
    results = tmp_path / "results"
    results.mkdir()
    put(results / "one.json", lab())
    put(results / "two.json", loads())
    for site in (results / "site", results / "site", tmp_path / "again"):
        write_site(site, collect([results], results / "site").artefacts)
    files = sorted(path.relative_to(results / "site") for path in (results / "site").rglob("*") if path.is_file())
    assert len(files) == 11
    for file in files:
        assert (results / "site" / file).read_bytes() == (tmp_path / "again" / file).read_bytes()


def test_the_index_and_details_are_json_of_everything(tmp_path: Path) -> None:
    artefacts = collect([put(tmp_path / "one.json", lab())], tmp_path / "site").artefacts
    index = index_of(artefacts)
    assert {len(column) for column in index["columns"].values()} == {2}
    assert [index["words"][word] for word in index["columns"]["cache"]] == ["on", "off"]
    assert [each["id"] for each in detail_of(artefacts[0])["entries"]] == index["columns"]["id"]
    with pytest.raises(KvsimError):
        collect([tmp_path / "nothing"], tmp_path / "site")
