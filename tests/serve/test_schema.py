"""What schemathesis makes of the server's OpenAPI schema: no defect, and no answer that the schema does not have."""

from __future__ import annotations

from pathlib import Path

import pytest
from live_server import MODEL, SMALL, serving


def test_whatever_the_schema_allows_or_not(tmp_path: Path) -> None:
    pytest.importorskip("schemathesis")
    from serve.fuzz import schemathesis

    with serving(MODEL, *SMALL) as live:
        options = ("--phases", "fuzzing", "--max-examples", "4", "--seed", "3")
        found = schemathesis(live.url, *options, folder=tmp_path)
        assert found.returncode == 0, found.stdout[-6000:] + found.stderr[-2000:]
        assert "Tested: 12" in found.stdout
        live.settle()
        state = live.engine.pump.serving.state()
        assert state.free_blocks == state.total_blocks
