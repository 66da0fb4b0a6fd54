"""Links that chunks have to themselves, one chunk after the other: when each begins is known when it is pushed."""

from __future__ import annotations

from typing import Final

from kvsim.sim.network.stream import Stream


class Booking:
    """One chunk on all links of its stream's path at once, from ``start_s`` on."""

    __slots__ = ("duration_s", "holds_s", "into_s", "number", "start_s", "stream", "work")

    def __init__(self, stream: Stream, number: int, work: float, duration_s: float) -> None:
        """``number``: of all chunks, in the order of the pushes. ``duration_s``: how long the slowest link has it."""
        self.stream, self.number, self.work, self.duration_s = stream, number, work, duration_s
        self.start_s = 0.0
        self.holds_s: list[float] | None = None
        """How long it has each link of the path; ``None``: as these carry now."""
        self.into_s = -1.0
        """So long after its start the head of the stream has left, of which somebody wants to know; negative: nobody
        does, or another chunk has its end."""


_NO_BOOKINGS: Final[list[Booking]] = []
"""No bookings: it stays empty."""


class Bookings:
    """Who has each link, and who waits for it, first come first served. Nobody overtakes on any link: a chunk that
    waits for one of its links keeps those behind it from all of them.
    """

    def __init__(self, capacity_bytes_per_s: list[float]) -> None:
        """``capacity_bytes_per_s``: by link; whoever changes one tells it to ``keep`` first."""
        num_links = len(capacity_bytes_per_s)
        self._capacity = capacity_bytes_per_s
        self._free_s: list[float] = [0.0] * num_links
        self._of_link: list[list[Booking]] = [_NO_BOOKINGS] * num_links
        """By link: what is booked and was not over at the last push, in the order of the pushes."""
        self._pushed = 0

    def book(self, stream: Stream, work: float, now_s: float) -> Booking:
        """Let a chunk of ``work`` bytes follow all that were pushed before it to any of its links."""
        self._pushed += 1
        booking = Booking(stream, self._pushed, work, work / stream.line_bytes_per_s)
        free_s = self._free_s
        start_s = max(now_s, stream.end_s)
        for link in stream.path:
            if free_s[link] <= now_s:
                self._of_link[link] = [booking]
                continue
            if free_s[link] > start_s:
                start_s = free_s[link]
            booked = self._of_link[link]
            if booked[0].start_s + booked[0].duration_s <= now_s:
                del booked[: _over(booked, now_s)]
            booked.append(booking)
        for link in stream.path:
            end_s = start_s + work / self._capacity[link]
            if end_s > free_s[link]:
                free_s[link] = end_s
        booking.start_s = start_s
        stream.end_s = start_s + booking.duration_s
        return booking

    def keep(self, link: int) -> None:
        """Let what is booked of a link have it as long as it was to, whatever it carries from now on."""
        for booking in self._of_link[link]:
            if booking.holds_s is None:
                booking.holds_s = [booking.work / self._capacity[each] for each in booking.stream.path]

    def left(self, stream: Stream, now_s: float) -> float:
        """Bytes of work of a stream that its links have not moved yet."""
        own: dict[Booking, None] = {}
        for link in stream.path:
            for booking in self._of_link[link]:
                if booking.stream is stream and booking.start_s + booking.duration_s > now_s:
                    own[booking] = None
        left = 0.0
        for booking in own:
            undone_s = booking.start_s + booking.duration_s - now_s
            left += booking.work * min(1.0, undone_s / booking.duration_s)
        return left

    def cancel(self, stream: Stream, now_s: float) -> list[Booking]:
        """Take a stream off its links: as if what it has under way ended now, and what waits had never been pushed.
        Returns the bookings of others that begin at another time for it, in the order of the pushes.
        """
        links = dict.fromkeys(stream.path)
        reached = list(stream.path)
        behind: dict[Booking, None] = {}
        begun_until_s: dict[Stream, float] = {}
        for link in reached:
            kept = [booking for booking in self._of_link[link] if booking.stream is not stream]
            self._of_link[link] = kept or _NO_BOOKINGS
            free_s = 0.0
            for booking in kept:
                path = booking.stream.path
                if booking.start_s <= now_s:
                    free_s = max(free_s, booking.start_s + self._hold_s(booking, path.index(link)))
                    until_s = booking.start_s + booking.duration_s
                    begun_until_s[booking.stream] = max(until_s, begun_until_s.get(booking.stream, 0.0))
                elif booking not in behind:
                    behind[booking] = None
                    for other in path:
                        if other not in links:
                            links[other] = None
                            reached.append(other)
            self._free_s[link] = free_s
        return self._move_up(sorted(behind, key=_number), begun_until_s, now_s)

    def _move_up(self, waiting: list[Booking], begun_until_s: dict[Stream, float], now_s: float) -> list[Booking]:
        """Place all that wait for some links once more; returns those that begin at another time for it."""
        for booking in waiting:
            booking.stream.end_s = begun_until_s.get(booking.stream, 0.0)
        moved = []
        for booking in waiting:
            before_s = booking.start_s
            self._place(booking, now_s)
            if booking.start_s != before_s:
                moved.append(booking)
        return moved

    def _place(self, booking: Booking, now_s: float) -> None:
        """Let a chunk begin once its stream's last one has ended and all its links are free."""
        stream, free_s = booking.stream, self._free_s
        start_s = max(now_s, stream.end_s, *[free_s[link] for link in stream.path])
        for hop, link in enumerate(stream.path):
            free_s[link] = max(free_s[link], start_s + self._hold_s(booking, hop))
        booking.start_s = start_s
        stream.end_s = start_s + booking.duration_s

    def _hold_s(self, booking: Booking, hop: int) -> float:
        if booking.holds_s is not None:
            return booking.holds_s[hop]
        return booking.work / self._capacity[booking.stream.path[hop]]


def _over(booked: list[Booking], now_s: float) -> int:
    """How many of the first are over."""
    count = 0
    while count < len(booked) and booked[count].start_s + booked[count].duration_s <= now_s:
        count += 1
    return count


def _number(booking: Booking) -> int:
    return booking.number
