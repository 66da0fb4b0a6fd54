import os
import stat
from pathlib import Path

import pytest

from kvsim.errors import KvsimError
from kvsim.report.atomic import ensure_writable, replacing


def test_the_file_appears_when_the_block_ends(tmp_path):
    path = tmp_path / "out.json"
    with replacing(path) as file:
        file.write(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["out.json"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failing_write_leaves_nothing(tmp_path, error):
    with pytest.raises(error), replacing(tmp_path / "out.json") as file:
        file.write(b"half")
        raise error
    assert os.listdir(tmp_path) == []


def test_a_failing_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "out.json"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError), replacing(path) as file:
        file.write(b"half")
        raise RuntimeError
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["out.json"]


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="there is no /proc here")
def test_a_file_system_that_takes_no_files_is_noticed_before_anything_runs():
    with pytest.raises(KvsimError, match=r"cannot write '/proc/report\.json'"):
        ensure_writable(Path("/proc/report.json"))


def test_a_full_disk_is_one_line(tmp_path):
    with pytest.raises(KvsimError, match="No space left") as caught, replacing(tmp_path / "out.json"):
        raise OSError(28, "No space left on device")
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("write", [ensure_writable, lambda path: replacing(path).__enter__()])
@pytest.mark.parametrize(
    "name, why",
    [
        ("absent/out.json", "there is no folder"),
        ("file/out.json", "there is no folder"),
        ("folder", "it is a folder"),
    ],
)
def test_paths_that_cannot_be_written(tmp_path, name, why, write):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    with pytest.raises(KvsimError, match=why) as caught:
        write(tmp_path / name)
    assert "\n" not in str(caught.value) and name in str(caught.value)
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


@pytest.mark.parametrize("length", [250, 300])
def test_a_name_too_long_is_known_beforehand(tmp_path, length):
    """The temporary name is longer than the file's own."""
    with pytest.raises(KvsimError, match=r"cannot write .* File name too long"):
        ensure_writable(tmp_path / ("x" * length))


def test_a_line_break_in_a_name_stays_one_line(tmp_path):
    with pytest.raises(KvsimError) as caught:
        ensure_writable(tmp_path / "a\nb" / "out")
    assert "\n" not in str(caught.value)


def test_a_link_stays_a_link(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"old")
    link.symlink_to(target)
    with replacing(link) as file:
        file.write(b"new")
    assert link.is_symlink() and target.read_bytes() == b"new"


def test_a_device_is_written_and_not_replaced():
    with replacing(Path("/dev/null")) as file:
        file.write(b"gone")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
