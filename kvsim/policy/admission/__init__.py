"""Admission policies, by name: one file and one line of the registry each. Policies know nothing of SimPy."""

from __future__ import annotations

from kvsim.policy.admission.all_blocks import AllBlocks
from kvsim.policy.admission.base import Admission, AdmissionSettings
from kvsim.policy.admission.second_hit import SecondHit
from kvsim.policy.admission.selective_write import SelectiveWrite
from kvsim.policy.admission.ttl import Ttl
from kvsim.policy.registry import Policies, is_own

__all__ = ["ADMISSIONS", "Admission", "AdmissionSettings", "make_admission"]

ADMISSIONS: Policies[type[Admission]] = Policies(
    "policies.admission",
    {
        "all": AllBlocks,
        "selective_write": SelectiveWrite,
        "ttl": Ttl,
        "second_hit": SecondHit,
    },
    base=Admission,
    kind="admission",
)


def make_admission(name: str, settings: AdmissionSettings) -> Admission:
    """The policy of that name, or of the class that ``package.module:Class`` names.

    Raises ``ConfigError`` for an unknown name, with the nearest, and for settings that it cannot use.
    """
    found = ADMISSIONS.find(name)
    if not is_own(name):
        return found(settings)
    from kvsim.policy.checked_policy import CheckedAdmission

    return CheckedAdmission(found, name, settings)
