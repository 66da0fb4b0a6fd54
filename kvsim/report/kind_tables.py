"""A row for each kind of unified instances."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich import box
from rich.table import Table

from kvsim.record.figures import SystemSummary
from kvsim.record.labels import number, percent, system_label


def kind_tables(results: Sequence[SystemSummary]) -> Iterator[Table]:
    """What each kind of a system's instances did, for systems that have several; USD are of the measured window."""
    for result in results:
        for use in result.utilisation.values():
            if not use.kinds:
                continue
            costs = {} if result.cost is None else {cost.gpu: cost.usd for cost in result.cost.kinds or ()}
            title = f"Instances of {system_label(result.name)} by kind"
            table = Table(title=title, title_justify="left", title_style="", box=box.SIMPLE_HEAD, pad_edge=False)
            for name in ("", "instances", "busy", "KV held", "requests", "hits", "USD"):
                table.add_column(name, justify="right" if name else "left", no_wrap=True)
            seen: set[str] = set()
            for kind in use.kinds:
                # Two pools of one GPU have one price together, told with the first.
                usd = "" if kind.gpu in seen else number(costs.get(kind.gpu))
                seen.add(kind.gpu)
                table.add_row(
                    f"{kind.gpus_per_instance} x {kind.gpu}",
                    f"{kind.instances:,}",
                    percent(kind.busy),
                    percent(kind.kv_usage),
                    f"{kind.requests:,}",
                    percent(kind.prefix_hit_rate),
                    usd,
                )
            yield table
