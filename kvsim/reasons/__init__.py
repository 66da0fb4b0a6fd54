"""Why a run came out as it did: sentences by rules that are true by the run's own counters.

``reason.py`` says what a reason is, ``evidence.py`` what rules look at; each subject is a file, each rule a function of
it that gives a reason or ``None``. Rules import nothing that simulates.
"""

from __future__ import annotations

from kvsim.reasons.reason import SUBJECTS, Reason, Subject, most_important
from kvsim.reasons.rules import RULES, reasons_of

__all__ = ["RULES", "SUBJECTS", "Reason", "Subject", "most_important", "reasons_of"]
