"""What of a configuration lets something happen to instances, lets them come and go, or makes clients give up."""

from __future__ import annotations

from kvsim.config.schema import Config


def disturbances(config: Config) -> tuple[str, ...]:
    """The keys that do, of ``fleet``, ``autoscale`` and ``clients``: a plan without them is ``Plan.undisturbed``."""
    given = {
        "fleet.events": bool(config.fleet.events),
        "autoscale.policy": config.autoscale.is_on,
        "clients.timeout_s": config.clients.timeout_s is not None,
        "clients.retries": config.clients.retries > 0,
    }
    return tuple(key for key, is_given in given.items() if is_given)
