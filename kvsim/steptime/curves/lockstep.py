"""Steps that data-parallel engines of a mixture of experts take together: one of the group is over for all at once.

Each engine computes attention and all that is dense for its own tokens. At every layer with experts the tokens of all
engines go to the GPUs that hold their experts, and back: whoever is there first waits for the last. A step of the group
takes the longest of the engines' own parts, the experts of all tokens, and the exchanges. An engine without work
computes a token for nobody. Where the largest batch fits CUDA graphs that are captured, all engines are padded to the
one that holds it; where it does not, none is. Source: vLLM's ``DPEngineCoreProc`` and ``coordinate_batch_across_dp``.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Any

from kvsim.steptime.curves.affine import Line
from kvsim.steptime.curves.base import StepTime
from kvsim.steptime.curves.coefficients import Coefficients, Knots
from kvsim.steptime.curves.speculative import SpeculativeStepTime


class SharedLayers:
    """Seconds of a whole step in which experts are computed, and tokens go there and back."""

    __slots__ = ("_experts", "experts", "gathers", "latency_s", "own_share", "received_share", "s_per_token")

    def __init__(
        self,
        experts: Knots,
        latency_s: float,
        s_per_token: float,
        *,
        gathers: bool,
        own_share: float = 1.0,
        received_share: float = 0.0,
    ) -> None:
        """``experts``: by the tokens of all engines, seconds on the fullest GPU. ``latency_s`` and ``s_per_token``: of
        the exchanges, for each token that a GPU has to send or get. ``gathers``: each GPU gets the tokens of all, but
        for ``own_share`` of its engine's; else it sends its engine's, and the fullest gets ``received_share`` of all.
        """
        self.experts, self._experts = experts, Line(experts)
        self.latency_s, self.s_per_token, self.gathers = latency_s, s_per_token, gathers
        self.own_share, self.received_share = own_share, received_share

    def __reduce__(self) -> tuple[Any, ...]:
        given = self.latency_s, self.s_per_token, self.gathers, self.own_share, self.received_share
        return shared_layers, (self.experts, *given)

    def scaled(self, factor: float) -> SharedLayers:
        """Every time multiplied by ``factor``."""
        knots = tuple((tokens, time_s * factor) for tokens, time_s in self.experts)
        times = self.latency_s * factor, self.s_per_token * factor
        return shared_layers(knots, *times, self.gathers, self.own_share, self.received_share)

    def experts_s(self, total: float) -> float:
        return self._experts.at(total)

    def exchange_s(self, total: float, largest: float, smallest: float) -> float:
        """``largest`` and ``smallest``: tokens of the engines that have most and fewest, of ``total``."""
        if self.gathers:
            return self.latency_s + self.s_per_token * (total - self.own_share * smallest)
        received = self.received_share * total
        return self.latency_s + self.s_per_token * (received if received > largest else largest)

    def seconds(self, total: float, largest: float, smallest: float) -> float:
        return self.experts_s(total) + self.exchange_s(total, largest, smallest)


def shared_layers(
    experts: Knots, latency_s: float, s_per_token: float, gathers: bool, own_share: float, received_share: float
) -> SharedLayers:
    """What a pickled one is made of again."""
    return SharedLayers(
        experts, latency_s, s_per_token, gathers=gathers, own_share=own_share, received_share=received_share
    )


class LockstepStepTime(StepTime):
    """Times of a group's steps in which every engine runs what one does: for arithmetic, and for its engines' own.

    ``member`` is what an engine of the group asks, ``step_s`` what the group does.
    """

    __slots__ = ("_idle_own_s", "capture_sizes", "engines", "idle_tokens", "member", "own", "shared")

    def __init__(
        self,
        own: StepTime,
        shared: SharedLayers,
        engines: int,
        coefficients: Coefficients,
        capture_sizes: tuple[int, ...] = (),
        idle_tokens: int = 1,
    ) -> None:
        """``own``: without experts and exchanges, of one engine. ``coefficients``: the formula that comes nearest to
        the whole. ``capture_sizes``: as for ``AffineStepTime``, and those of ``own``. ``idle_tokens``: of an engine
        without work.
        """
        super().__init__(coefficients)
        self.own, self.shared, self.engines, self.capture_sizes = own, shared, engines, capture_sizes
        self.idle_tokens = idle_tokens
        self._idle_own_s = own.decode_alone_s(1)
        self.member = MemberStepTime(self)

    def __reduce__(self) -> tuple[Any, ...]:
        given = self.own, self.shared, self.engines, self.coefficients, self.capture_sizes, self.idle_tokens
        return LockstepStepTime, given

    def with_own(self, own: StepTime, coefficients: Coefficients) -> LockstepStepTime:
        """A group whose engines take other times for themselves; ``coefficients`` of the whole."""
        return LockstepStepTime(own, self.shared, self.engines, coefficients, self.capture_sizes, self.idle_tokens)

    @property
    def needs_longest(self) -> bool:
        """As of ``own``."""
        return self.own.needs_longest

    def padded(self, tokens: int) -> int:
        """Tokens that an engine with ``tokens`` runs where no other has more."""
        place = bisect_left(self.capture_sizes, tokens)
        return self.capture_sizes[place] if place < len(self.capture_sizes) else tokens

    def step_s(self, own_s: list[float], tokens: list[int]) -> float:
        """Seconds of a step of the group, from what its busy engines take for themselves, and their tokens.

        The others have a token each, on which all that is dense takes as long as on anybody's.
        """
        times_s, counts, idle = own_s, tokens, self.engines - len(tokens)
        if idle:
            times_s, counts = [*own_s, self._idle_own_s], [*tokens, self.idle_tokens]
        largest = smallest = total = counts[0]
        for count in counts[1:]:
            total += count
            largest = count if count > largest else largest
            smallest = count if count < smallest else smallest
        if idle > 1:
            total += (idle - 1) * self.idle_tokens
        sizes, slowest_s = self.capture_sizes, 0.0
        is_padded = bool(sizes) and largest <= sizes[-1]
        if is_padded:
            padded = self.padded(largest)
            total, largest, smallest = self.engines * padded, padded, padded
        for place, time_s in enumerate(times_s):
            if is_padded:  # Its own time is of the size that holds its own tokens.
                time_s += self.own.drafts_s(counts[place], 0, largest - counts[place], False)
            slowest_s = time_s if time_s > slowest_s else slowest_s
        return slowest_s + self.shared.seconds(total, largest, smallest)

    def idle_s(self) -> float:
        """Seconds of a step in which no engine has work."""
        return self.step_s([], [])

    def alone_s(self, tokens: int) -> float:
        """Seconds that a step of ``tokens`` tokens takes beyond the engine's own part while no other has work."""
        others, idle = self.engines - 1, self.idle_tokens
        padded = self.padded(tokens)
        if self.capture_sizes and padded <= self.capture_sizes[-1]:
            return self.shared.seconds(self.engines * padded, padded, padded)
        return self.shared.seconds(tokens + others * idle, max(tokens, idle), min(tokens, idle))

    def _alike_s(self, tokens: int) -> float:
        padded = self.padded(tokens)
        return self.shared.seconds(self.engines * padded, padded, padded)

    def chunk_work(self, chunk_tokens: int, prefix_tokens: int) -> float:
        """As of ``own``."""
        return self.own.chunk_work(chunk_tokens, prefix_tokens)

    def mixed_s(
        self, tokens: int, seqs: int, decodes: int, kv_tokens: int, longest_tokens: int, chunk_work: float
    ) -> float:
        """Time of a step that every engine of the group runs."""
        own_s = self.own.mixed_s(tokens, seqs, decodes, kv_tokens, longest_tokens, chunk_work)
        return own_s + self._alike_s(tokens)

    def decode_span(self, decodes: int, kv_tokens: int, longest_tokens: int) -> tuple[float, float, int]:
        """Time of steps that every engine of the group runs."""
        first_s, slope_s, limit = self.own.decode_span(decodes, kv_tokens, longest_tokens)
        return first_s + self._alike_s(decodes), slope_s, limit

    def drafts_s(self, tokens: int, seqs: int, drafts: int, with_logits: bool) -> float:
        """How much longer a step takes that verifies so many further tokens, on every engine."""
        own_s = self.own.drafts_s(tokens, seqs, drafts, with_logits)
        return own_s + self._alike_s(tokens + drafts) - self._alike_s(tokens)


class MemberStepTime(StepTime):
    """What one engine of a group takes for itself; beside engines without work where a step is said to be alone."""

    __slots__ = ("_own", "group")

    def __init__(self, group: LockstepStepTime) -> None:
        super().__init__(group.coefficients)
        self.group, self._own = group, group.own

    def __reduce__(self) -> tuple[Any, ...]:
        return _member_of, (self.group,)

    @property
    def needs_longest(self) -> bool:
        """As of what it takes for itself."""
        return self._own.needs_longest

    def chunk_work(self, chunk_tokens: int, prefix_tokens: int) -> float:
        """Attention work of one chunk."""
        return self._own.chunk_work(chunk_tokens, prefix_tokens)

    def mixed_s(
        self, tokens: int, seqs: int, decodes: int, kv_tokens: int, longest_tokens: int, chunk_work: float
    ) -> float:
        """Time of what an engine computes for itself in a step."""
        return self._own.mixed_s(tokens, seqs, decodes, kv_tokens, longest_tokens, chunk_work)

    def decode_span(self, decodes: int, kv_tokens: int, longest_tokens: int) -> tuple[float, float, int]:
        """Time of what an engine computes for itself in such steps."""
        return self._own.decode_span(decodes, kv_tokens, longest_tokens)

    def drafts_s(self, tokens: int, seqs: int, drafts: int, with_logits: bool) -> float:
        """How much longer its own part takes."""
        return self._own.drafts_s(tokens, seqs, drafts, with_logits)

    def beside_idle_s(self, tokens: int) -> float:
        """What a step takes beyond its own part while no other engine of the group has work."""
        return self.group.alone_s(tokens)

    def prefill_alone_s(self, chunk_tokens: int, prefix_tokens: int) -> float:
        """Time of a step that holds nothing but this chunk, while no other engine has work."""
        return super().prefill_alone_s(chunk_tokens, prefix_tokens) + self.group.alone_s(chunk_tokens)

    def decode_alone_s(self, kv_tokens: int) -> float:
        """Time of a step that holds nothing but one decoding sequence, while no other engine has work."""
        return super().decode_alone_s(kv_tokens) + self.group.alone_s(1)


def _member_of(group: LockstepStepTime) -> MemberStepTime:
    return group.member


def steps_together(step_time: StepTime) -> LockstepStepTime | None:
    """The times of a group's steps where engines with ``step_time`` are of one."""
    target = step_time.target if isinstance(step_time, SpeculativeStepTime) else step_time
    return target if isinstance(target, LockstepStepTime) else None


def times_of_engine(step_time: StepTime) -> StepTime:
    """What an engine of an instance with ``step_time`` asks: its own part, where it is one of a group."""
    group = steps_together(step_time)
    if group is None:
        return step_time
    if isinstance(step_time, SpeculativeStepTime):
        return SpeculativeStepTime(group.member, step_time.drafter, step_time.num_tokens, step_time.coefficients)
    return group.member
