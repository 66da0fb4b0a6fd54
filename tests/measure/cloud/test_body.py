"""What is done on a rented machine, done here with a server of ours."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from pathlib import Path

import pytest

from kvsim.errors import ConfigError
from kvsim.measure.cloud.body import SECRETS, Place, carry_out
from kvsim.measure.cloud.modes import Mode
from kvsim.measure.cloud.plan import Ask, CloudPlan, plan_for
from kvsim.measure.cloud.remote import begin
from kvsim.measure.cloud.results import check_folder, left_in, read_back, write_files
from kvsim.measure.cloud.server import ServerFailedError, is_well, running
from kvsim.validate.clients.read import read_results

pytest.importorskip("aiohttp")
MODEL = "meta-llama/Llama-3.2-1B-Instruct"
PROGRAM = "import sys; from kvsim.cli import main; sys.exit(main())"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def sweep(**changed: object) -> CloudPlan:
    asked = {"mode": Mode.SWEEP, "model": MODEL, "workloads": ("in=64,out=4,prefix=48:1",), "concurrency": (2,),
             "requests": 8}  # fmt: skip
    return plan_for(Ask(**asked | changed))  # type: ignore[arg-type]


def place_for(folder: Path, limit_s: float = 120.0) -> Place:
    """``kvsim serve`` in the place of ``vllm serve``; the line is otherwise the plan's."""
    port = free_port()

    def command(caching: bool) -> list[str]:
        flag = "--enable-prefix-caching" if caching else "--no-enable-prefix-caching"
        return [sys.executable, "-c", PROGRAM, "serve", MODEL, "--gpu", "l4", "--port", str(port), flag]

    return Place(folder=folder, command=command, url=f"http://127.0.0.1:{port}", until_s=time.monotonic() + limit_s)


def test_a_sweep_brings_back_what_validate_load_reads(tmp_path: Path) -> None:
    pytest.importorskip("uvicorn")
    there, here = tmp_path / "there", tmp_path / "here"
    there.mkdir()
    place = place_for(there)
    said = carry_out(sweep(), place)
    assert [load["status"] for load in said["loads"]] == ["ok", "ok"], said
    assert not is_well(place.url)
    write_files(here, left_in(there))
    assert read_back(here) == json.loads(json.dumps(said))
    for load in said["loads"]:
        (found,) = read_results(here / load["name"])
        assert (found.completed, found.failures) == (8, 0)
        assert (found.traffic.prompt_tokens, found.traffic.output_tokens) == (64, 4)
        assert found.ttft_s["mean"] * 1e3 == pytest.approx(load["ttft_mean_ms"], abs=0.01)
        assert found.traffic.max_in_flight == 2
    hits = [_hits(here / load["name"] / "rows.jsonl") for load in said["loads"]]
    assert hits[0] >= 6 * 48, "one prefix, cached but for those that came together with the first"
    assert hits[1] == 0


def _hits(rows: Path) -> float:
    about = json.loads(rows.read_text().splitlines()[0])
    counted = [about["metrics"][name]["prefix_hits"] for name in ("before", "after")]
    return float(counted[1] - counted[0])


def test_a_server_that_does_not_come_up_is_said_and_the_next_is_tried(tmp_path: Path) -> None:
    place = place_for(tmp_path)
    broken = [sys.executable, "-c", "print('out of memory'); raise SystemExit(3)"]
    place = Place(folder=tmp_path, command=lambda caching: broken, url=place.url, until_s=place.until_s)
    said = carry_out(sweep(), place)
    assert [each["status"] for each in said["loads"]] == ["not run", "not run"]
    assert all("ended with 3 before it was ready: out of memory" in each["error"] for each in said["servers"])


def test_nothing_is_begun_when_the_time_is_up(tmp_path: Path) -> None:
    place = place_for(tmp_path, limit_s=1.0)
    began_s = time.monotonic()
    said = carry_out(sweep(), place)
    assert time.monotonic() - began_s < 5
    assert {each["status"] for each in said["loads"]} == {"not run"}


HANGS = "import signal, time, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(sys.argv); time.sleep(60)"


def test_a_server_that_hangs_is_ended_with_all_it_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvsim.measure.cloud.server.END_S", 0.2)
    child = tmp_path / "child.pid"
    program = (
        f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {HANGS!r}]); "
        f"open({str(child)!r}, 'w').write(str(p.pid)); p.wait()"
    )
    url = f"http://127.0.0.1:{free_port()}"
    with (
        pytest.raises(ServerFailedError, match="not ready in time"),
        running([sys.executable, "-c", program], url, tmp_path / "log", time.monotonic() + 1.0),
    ):
        pytest.fail("it is not ready")
    pid = int(child.read_text())
    until_s = time.monotonic() + 5
    while _runs(pid) and time.monotonic() < until_s:
        time.sleep(0.05)
    assert not _runs(pid)


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_secrets_are_in_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place, name in enumerate(SECRETS):
        monkeypatch.setenv(name, f"hidden-{place}")
    tells = [sys.executable, "-c", f"import os; print([os.environ[n] for n in {SECRETS!r}])"]
    place = Place(folder=tmp_path, command=lambda caching: tells, url=f"http://127.0.0.1:{free_port()}",
                  until_s=time.monotonic() + 60)  # fmt: skip
    carry_out(sweep(), place)
    written = b"".join(left_in(tmp_path).values())
    assert b"hidden" not in written
    assert written.count(b"***") >= len(SECRETS)


class Marks:
    def __init__(self) -> None:
        self.kept: dict[str, object] = {}

    def put(self, key: str, value: object, *, skip_if_exists: bool = False) -> bool:
        fresh = key not in self.kept
        self.kept.setdefault(key, value)
        return fresh


def test_a_second_container_does_no_work() -> None:
    marks = Marks()
    begin(marks)
    with pytest.raises(ConfigError, match="taken away"):
        begin(marks)


def test_files_stay_in_their_folder(tmp_path: Path) -> None:
    for name in ("../a", "/a", "b/../../a"):
        with pytest.raises(ConfigError, match="not written"):
            write_files(tmp_path / "out", {name: b""})
    assert not (tmp_path / "a").exists()


def test_a_folder_with_files_is_refused_before_it_is_paid_for(tmp_path: Path) -> None:
    check_folder(tmp_path / "new" / "folder")
    (tmp_path / "file").write_text("")
    for taken, message in (
        (tmp_path, "has files already"),
        (tmp_path / "file", "no folder"),
        (tmp_path / "file/x", "is no folder"),
    ):
        with pytest.raises(ConfigError, match=message):
            check_folder(taken)


@pytest.mark.skipif(os.name != "posix", reason="processes in groups")
def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    with (
        pytest.raises(ServerFailedError, match="nosuch-vllm cannot be started"),
        running(["nosuch-vllm"], "http://127.0.0.1:1", tmp_path / "log", time.monotonic() + 1),
    ):
        pytest.fail("it is not there")
