"""The table of costs in ``docs/modal.md`` is what plans say; ``python test_modal_page.py`` prints it."""

from __future__ import annotations

from pathlib import Path

from kvsim.cli.modal import MODES
from kvsim.measure.cloud.modes import Mode
from kvsim.measure.cloud.plan import Ask, plan_for
from kvsim.measure.cloud.prices import GPUS

PAGE = Path(__file__).resolve().parents[3] / "docs" / "modal.md"


def table() -> list[str]:
    """Its rows."""
    rows = []
    for mode in Mode:
        costs = (plan_for(Ask(mode=mode, gpu=gpu, max_usd=1000.0)).bound_usd for gpu in GPUS)
        rows.append(f"| `kvsim modal {mode.value} --gpu ...` | {' | '.join(f'{usd:.2f}' for usd in costs)} |")
    return rows


def test_the_page_has_every_command_and_what_it_costs() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert [line for line in text.splitlines() if line.startswith("| `kvsim modal")] == table()
    heads = next(line for line in text.splitlines() if line.startswith("| command")).split("|")[2:-1]
    assert [head.strip().lower() for head in heads] == list(GPUS)


def test_the_command_line_knows_every_mode() -> None:
    assert list(MODES) == [mode.value for mode in Mode]


if __name__ == "__main__":
    print("\n".join(table()))
