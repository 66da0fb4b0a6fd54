import math
import os

import pytest

from kvsim.report.json_report import write_json


def test_what_json_cannot_say_leaves_no_file(tmp_path):
    with pytest.raises(ValueError):
        write_json(tmp_path / "report.json", {"config": math.nan})
    assert os.listdir(tmp_path) == []
