"""What renting a GPU costs, from one public list of prices on demand."""

from __future__ import annotations

from kvsim.units import SECONDS_PER_HOUR

SOURCE = "modal.com/pricing"
AS_OF = "2026-05-25"
"""When the prices below stood there, without a plan's discounts or credits; what is asked for today may be more."""
USD_PER_S = {
    "l4": 0.000222,
    "a10": 0.000306,
    "l40s": 0.000542,
    "a100-40gb-sxm": 0.000583,
    "a100-80gb-sxm": 0.000694,
    "h100-sxm": 0.001097,
    "h200-sxm": 0.001261,
    "b200-sxm": 0.001736,
}
"""By GPU: what a second costs; the machine around it is charged for apart."""


def usd_per_hour(gpu: str) -> float | None:
    """What an hour of a GPU of the catalogue costs there; ``None``: the list does not have it."""
    usd_per_s = USD_PER_S.get(gpu)
    return None if usd_per_s is None else usd_per_s * SECONDS_PER_HOUR
