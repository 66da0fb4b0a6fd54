"""The deployment that a server says it is, as kvsim simulates it."""

from kvsim.fields import Fields
from kvsim.live.ask import Ask
from kvsim.live.server import told_by
from kvsim.measure.settings import Server
from kvsim.plan.instance import load_instance
from kvsim.plan.plan import Plan, unified_plan


def plan_of(server: Server) -> Plan:
    """One engine with the server's own arguments; its step times are of no machine in particular."""
    told = told_by(Ask(server))
    keys = {"load.warm_caches": False}
    loaded = load_instance(told.root, Fields("", told.arguments), vllm_version=told.version, keys=keys)
    return unified_plan(loaded.config, 1)
