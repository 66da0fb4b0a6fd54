"""Policies of a user's own, checked call by call: whatever goes wrong in one, or breaks its word, is said in one line.

Policies of kvsim's pay nothing for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import ParamSpec, TypeVar, cast

import numpy as np

from kvsim.errors import ConfigError, KvsimError
from kvsim.policy.admission.base import Admission, AdmissionSettings
from kvsim.policy.eviction.base import NOBODY, Access, Eviction
from kvsim.policy.prefetch.base import Prefetch, PrefetchSettings
from kvsim.policy.registry import described
from kvsim.policy.scaling.base import ScalingPolicy, ScalingSettings, Seen

Given = ParamSpec("Given")
Result = TypeVar("Result")


class _Guard:
    """Says which policy it was."""

    def __init__(self, kind: str, name: str) -> None:
        """``kind``: eviction, admission or prefetch. ``name``: ``package.module:Class``."""
        self._whose = f"{kind} '{name}'"

    def call(self, method: str, function: Callable[Given, Result], *args: Given.args, **named: Given.kwargs) -> Result:
        """What ``function`` returns. Raises ``ConfigError`` for what it raises, unless that is an error of kvsim's."""
        try:
            return function(*args, **named)
        except KvsimError:
            raise
        except (Exception, SystemExit) as error:  # whatever the user's class raises
            raise self.error(f"{method} raised {described(error)}") from error

    def error(self, words: str) -> ConfigError:
        """To be raised."""
        return ConfigError(f"{self._whose}: {words}")


def _shown(value: object) -> str:
    """What a method returned, in one line, whatever it is."""
    return repr(value) if value is None or isinstance(value, bool | int | float) else f"a {type(value).__name__}"


class CheckedEviction(Eviction):
    """Keeps books of its own of what is resident, by the victims it is told, and compares after each call.

    Raises ``ConfigError`` from any method when the policy raises something or breaks its word. Traces are replayed
    access by access: a fast way that the class inherits knows nothing of what it overrides.
    """

    def __init__(self, policy: Eviction, guard: _Guard, capacity_blocks: int) -> None:
        super().__init__(capacity_blocks)
        self._policy, self._guard = policy, guard
        self._resident: set[int] = set()

    def __contains__(self, key: int) -> bool:
        found = self._guard.call("__contains__", lambda: key in self._policy)
        if found != (key in self._resident):
            why = "in it; it never came or has left" if found else "not in it; it came and admit returned it for nobody"
            raise self._guard.error(f"__contains__ says that key {key} is {why}")
        return found

    def __len__(self) -> int:
        return self._guard.call("__len__", len, self._policy)

    def hit(self, key: int, access: Access) -> None:
        self._guard.call("hit", self._policy.hit, key, access)
        self._check_size("hit")

    def admit(self, key: int, access: Access) -> int:
        victim = self._victim(key, self._guard.call("admit", self._policy.admit, key, access))
        self._resident.add(key)
        self._resident.discard(victim)
        for each in (key, victim):
            if each != NOBODY:
                self.__contains__(each)
        self._check_size("admit")
        return victim

    def discard(self, key: int) -> None:
        self._guard.call("discard", self._policy.discard, key)
        self._resident.discard(key)
        self._check_size("discard")

    def refresh(self, keys: Sequence[int]) -> None:
        self._guard.call("refresh", self._policy.refresh, keys)
        self._check_size("refresh")

    def _victim(self, key: int, victim: object) -> int:
        if isinstance(victim, bool) or not isinstance(victim, int | np.integer):
            raise self._guard.error(f"admit returned {_shown(victim)}; allowed: the key evicted, or NOBODY")
        number = int(victim)
        if number not in (key, NOBODY) and number not in self._resident:
            raise self._guard.error(f"admit returned {number}, which was not resident; allowed: a key that was, NOBODY")
        return number

    def _check_size(self, method: str) -> None:
        size, wanted = len(self), len(self._resident)
        if size > self.capacity_blocks:
            raise self._guard.error(f"{size} keys after {method}; allowed: its capacity of {self.capacity_blocks}")
        if size != wanted:
            raise self._guard.error(f"{size} keys after {method}; {wanted} came and did not leave as admit's victims")


def checked_eviction(found: type[Eviction], name: str, capacity_blocks: int, seed: int) -> Eviction:
    """An empty cache under a user's own policy. Raises ``ConfigError`` where it cannot be made."""
    guard = _Guard("eviction", name)
    policy = guard.call("__init__", found, capacity_blocks, seed)
    said = {
        "name": name,
        "is_offline": bool(policy.is_offline),
        "needs_access": bool(policy.needs_access),
        "heads_first": bool(policy.heads_first),
    }
    return cast(Eviction, type(found.__name__, (CheckedEviction,), said)(policy, guard, capacity_blocks))


class CheckedAdmission(Admission):
    """Raises ``ConfigError`` when the policy raises something or answers neither yes nor no."""

    name = "own"

    def __init__(self, found: type[Admission], name: str, settings: AdmissionSettings) -> None:
        super().__init__(settings)
        self._guard = _Guard("admission", name)
        self._policy = self._guard.call("__init__", found, settings)

    def admits(self, key: int, access: Access) -> bool:
        return self._yes("admits", self._guard.call("admits", self._policy.admits, key, access))

    def expired(self, key: int, access: Access) -> bool:
        return self._yes("expired", self._guard.call("expired", self._policy.expired, key, access))

    def _yes(self, method: str, answer: object) -> bool:
        if isinstance(answer, bool | np.bool_):
            return bool(answer)
        raise self._guard.error(f"{method} returned {_shown(answer)}; allowed: True, False")


class CheckedPrefetch(Prefetch):
    """Raises ``ConfigError`` when the policy raises something or names what is no key."""

    name = "own"

    def __init__(self, found: type[Prefetch], name: str, settings: PrefetchSettings) -> None:
        super().__init__(settings)
        self._guard = _Guard("prefetch", name)
        self._policy = self._guard.call("__init__", found, settings)

    def after(self, path_keys: Sequence[int], access: Access) -> Sequence[int]:
        answer: object = self._guard.call("after", self._policy.after, path_keys, access)
        if not isinstance(answer, Iterable) or isinstance(answer, str | bytes):
            raise self._guard.error(f"after returned {_shown(answer)}; allowed: a sequence of keys")
        return [self._key(each) for each in self._guard.call("after", list, answer)]

    def _key(self, key: object) -> int:
        if isinstance(key, bool) or not isinstance(key, int | np.integer) or key < 0:
            raise self._guard.error(f"after named {_shown(key)}; allowed: keys, which are whole numbers >= 0")
        return int(key)


def checked_scaling(found: type[ScalingPolicy], name: str, settings: ScalingSettings) -> ScalingPolicy:
    """A user's own scaling policy. Raises ``ConfigError`` where it cannot be made."""
    said = {"is_steadied": bool(found.is_steadied)}
    return cast(ScalingPolicy, type(found.__name__, (CheckedScaling,), said)(found, name, settings))


class CheckedScaling(ScalingPolicy):
    """Raises ``ConfigError`` when the policy raises something or wants what is no number of instances."""

    name = "own"

    def __init__(self, found: type[ScalingPolicy], name: str, settings: ScalingSettings) -> None:
        super().__init__(settings)
        self._guard = _Guard("autoscale.policy", name)
        self._policy = self._guard.call("__init__", found, settings)

    def first(self) -> int | None:
        return self._instances("first", self._guard.call("first", self._policy.first))

    def wanted(self, seen: Seen) -> int | None:
        return self._instances("wanted", self._guard.call("wanted", self._policy.wanted, seen))

    def _instances(self, method: str, answer: object) -> int | None:
        if answer is None:
            return None
        if isinstance(answer, bool) or not isinstance(answer, int | np.integer) or answer < 0:
            raise self._guard.error(f"{method} returned {_shown(answer)}; allowed: a whole number >= 0, or None")
        return int(answer)
