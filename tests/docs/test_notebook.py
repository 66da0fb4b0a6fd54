"""The example notebook runs from top to bottom, and carries no output in the repository."""

from __future__ import annotations

import json

import pytest
from places import REPOSITORY

NOTEBOOK = REPOSITORY / "docs" / "notebooks" / "first_prediction.ipynb"


def test_it_runs() -> None:
    for name in ("nbclient", "nbformat", "ipykernel"):
        pytest.importorskip(name, reason="jupyter is not there; pip install '.[notebook]', or make notebook")
    import nbformat
    from nbclient import NotebookClient

    book = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(
        book, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(REPOSITORY)}}
    ).execute()
    kinds = [kind for cell in book.cells for output in cell.get("outputs", []) for kind in output.get("data", {})]
    assert kinds.count("image/png") == 2 and "text/html" in kinds


def test_it_carries_no_output() -> None:
    cells = [cell for cell in json.loads(NOTEBOOK.read_text("utf-8"))["cells"] if cell["cell_type"] == "code"]
    assert len(cells) > 4
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)
