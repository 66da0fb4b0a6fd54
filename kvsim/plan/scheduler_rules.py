"""The rules of vLLM's scheduler by version.

Source: recordings of each version's scheduler (docs/conformance.md).
"""

from __future__ import annotations

from kvsim.plan.engine_settings import SchedulerRules
from kvsim.plan.vllm_defaults import LATEST, is_since, version_of

OLDEST = (0, 15)
"""The oldest version whose scheduler was recorded."""
RESERVES_WHOLE_SINCE = (0, 19)
"""From this version on there is ``scheduler_reserve_full_isl``; before, the first chunk alone needs room."""
WATERMARK_SINCE = (0, 24)
"""From this version on there is ``watermark``."""
THRESHOLD_SPARES_LONE_SINCE = (0, 31)
BLANK_BLOCKS_FIRST_SINCE = (0, 24)
WINDOW_BLANKS_FIRST_SINCE = (0, 23)
KEEPS_TURNS_SINCE = (0, 28)
PADDING_SINCE = (0, 25)
FITTING_PADDING_SINCE = (0, 30)
DRAFT_SLOTS_BY_REQUEST_SINCE = (0, 28)
DRAFT_SLOTS_SINCE = (0, 17)
ADMITS_WITH_LOOKAHEAD_SINCE = (0, 23)
KEEPS_IN_FLIGHT_SINCE = (0, 26)
WAITS_FOR_STATES_SINCE = (0, 17)
STOPS_AT_JUNCTIONS_SINCE = (0, 24)
REMEMBERS_JUNCTIONS_SINCE = (0, 26)
ALIGNS_RESUMED_SINCE = (0, 17)
CAPS_RESERVATION_SINCE = (0, 20)
AGREES_AT_ONCE_SINCE = (0, 16)
FREES_PASSED_STATES_SINCE = (0, 30)
"""Again: before ``KEEPS_IN_FLIGHT_SINCE`` none was kept that long."""
ALIGNS_LAST_CHUNKS_SINCE = (0, 27)
REPLAYS_LAST_STATE_SINCE = (0, 32)


def rules_of(vllm_version: str) -> SchedulerRules:
    """The rules of that version; of 0.32 where it is not known."""
    slots = "seat" if is_since(vllm_version, DRAFT_SLOTS_SINCE) else "none"
    padding = "decodes" if is_since(vllm_version, PADDING_SINCE) else "none"
    return SchedulerRules(
        threshold_spares_lone=is_since(vllm_version, THRESHOLD_SPARES_LONE_SINCE),
        blank_blocks_first=is_since(vllm_version, BLANK_BLOCKS_FIRST_SINCE),
        window_blanks_first=is_since(vllm_version, WINDOW_BLANKS_FIRST_SINCE),
        keeps_turns=is_since(vllm_version, KEEPS_TURNS_SINCE),
        padding="fitting" if is_since(vllm_version, FITTING_PADDING_SINCE) else padding,
        draft_slots="request" if is_since(vllm_version, DRAFT_SLOTS_BY_REQUEST_SINCE) else slots,
        admits_with_lookahead=is_since(vllm_version, ADMITS_WITH_LOOKAHEAD_SINCE),
        keeps_in_flight=is_since(vllm_version, KEEPS_IN_FLIGHT_SINCE),
        caps_reservation=is_since(vllm_version, CAPS_RESERVATION_SINCE),
        agrees_at_once=is_since(vllm_version, AGREES_AT_ONCE_SINCE),
        frees_passed_states=is_since(vllm_version, FREES_PASSED_STATES_SINCE)
        or not is_since(vllm_version, KEEPS_IN_FLIGHT_SINCE),
        waits_for_states=is_since(vllm_version, WAITS_FOR_STATES_SINCE),
        refreshes_states=is_since(vllm_version, REPLAYS_LAST_STATE_SINCE),
        stops_at_junctions=is_since(vllm_version, STOPS_AT_JUNCTIONS_SINCE),
        remembers_junctions=is_since(vllm_version, REMEMBERS_JUNCTIONS_SINCE),
        aligns_resumed=is_since(vllm_version, ALIGNS_RESUMED_SINCE),
        aligns_last_chunks=is_since(vllm_version, ALIGNS_LAST_CHUNKS_SINCE),
        last_state_before_end=is_since(vllm_version, REPLAYS_LAST_STATE_SINCE),
    )


def said_of_version(vllm_version: str) -> list[str]:
    """A sentence where the rules that are taken are not that version's own."""
    version = version_of(vllm_version)
    if version[:2] > LATEST:
        return [f"vLLM {vllm_version} is newer than {_text(LATEST)}, the latest that is known, whose rules are taken"]
    if version and version < OLDEST:
        return [
            f"vLLM {vllm_version}: the rules of its scheduler were not recorded; those of {_text(OLDEST)} are taken, "
            "the oldest that was"
        ]
    return []


def _text(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def reserves_whole(vllm_version: str, asked: bool) -> bool:
    """Whether admission needs room for a whole sequence, where ``scheduler_reserve_full_isl`` is ``asked`` for."""
    return asked and is_since(vllm_version, RESERVES_WHOLE_SINCE)


def watermark_of(vllm_version: str, asked: float) -> float:
    """The share of blocks kept free at admission, where ``watermark`` is ``asked`` for."""
    return asked if is_since(vllm_version, WATERMARK_SINCE) else 0.0
