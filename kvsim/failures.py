"""Parts of a run that may fail alone: a study, a variant, a picture, a file. The rest of the run keeps its result."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NoReturn, TypeVar

from kvsim.errors import KvsimError

Made = TypeVar("Made")


@dataclass(frozen=True)
class FailedPart:
    """What a report says of a part that could not be made."""

    part: str
    """What it is, e.g. ``study pd_ratio``."""
    why: str
    is_defect: bool
    """An exception that nobody raised on purpose: kvsim's own fault, where a ``KvsimError`` is the input's and an
    ``OSError`` the machine's."""
    trace: str
    """Python traceback of a defect, else empty."""

    def sentence(self) -> str:
        """For a reader, on one line."""
        return f"{self.part} failed{', a defect of kvsim' if self.is_defect else ''}: {self.why}"


@dataclass(frozen=True)
class Failure(FailedPart):
    """One part that could not be made, and what was raised."""

    error: Exception

    @property
    def told(self) -> FailedPart:
        """The part without the exception, for the report."""
        return FailedPart(self.part, self.why, self.is_defect, self.trace)


@dataclass
class Failures:
    """What failed so far, in order."""

    found: list[Failure] = field(default_factory=list)

    def attempt(self, part: str, make: Callable[[], Made]) -> Made | None:
        """What ``make`` returns, or ``None`` and a note of why; an interrupt and a closed stdout go on."""
        try:
            return make()
        except BrokenPipeError:
            raise
        except (KvsimError, OSError) as error:
            self.found.append(Failure(part, str(error), is_defect=False, trace="", error=error))
        except Exception as error:
            why = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            self.found.append(Failure(part, why, is_defect=True, error=error, trace=traceback.format_exc()))
        return None

    def reraise(self) -> NoReturn:
        """The first exception again: for when nothing is left that could be reported. There has to be one."""
        raise self.found[0].error

    @property
    def has_defects(self) -> bool:
        return any(failure.is_defect for failure in self.found)
