"""The single node and ``--cluster``: policies and memories side by side, from the flags to the report."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kvsim.cli.idle import Uses
from kvsim.cli.options import TIER_STUDIES
from kvsim.cli.outputs import Outputs
from kvsim.cli.pd import PdCommand, build, handed_over, inputs_of, without_skipped
from kvsim.cli.usage import FlagError
from kvsim.errors import nearest

if TYPE_CHECKING:
    from kvsim.config import LoadedConfig
    from kvsim.modes.pd import Experiment
    from kvsim.modes.tiered import Variant
    from kvsim.plan.mode import Mode
    from kvsim.report.json_report import RunClock

SINGLE_POLICIES = ("baseline", "arc", "session_prefetch", "selective_write", "learned", "hybrid", "belady")
"""Bundles that the single node compares unless others are named."""


def run_tiered_command(command: PdCommand, clock: RunClock, mode_name: str, policy: str | None) -> int:
    """Simulate, print, write; returns the exit code: 1 when interrupted or when a conservation law is violated."""
    from kvsim.config import load_config
    from kvsim.plan.mode import CLUSTER, SINGLE

    mode = CLUSTER if mode_name == "cluster" else SINGLE
    loaded = load_config(command.config, command.profile, command.preset, command.sets, mode.name)
    studies = _studies(command, mode)
    variants = _variants(command, mode, loaded, policy)
    folder = command.out or Path(mode.experiment(loaded.config).output_dir)
    outputs = Outputs(command.report_json, command.report_csv, folder, command.plots)
    outputs.check(inputs_of(command))
    experiment = _simulate(command, mode, variants, without_skipped(command, studies))
    report = build(clock, loaded, experiment, mode.name)
    uses = _uses(mode, variants, studies, outputs)
    return handed_over(command, loaded, outputs, report, experiment, partial(_print, report), uses)


def _studies(command: PdCommand, mode: Mode) -> tuple[str, ...]:
    known = TIER_STUDIES[mode.name]
    if command.no_studies:
        return ()
    for name in command.studies or ():
        if name not in known:
            raise FlagError(f"--studies: '{name}' is no study of this mode; {nearest(name, known)}")
    return known if command.studies is None else command.studies


def _uses(mode: Mode, variants: Sequence[Variant], studies: tuple[str, ...], outputs: Outputs) -> Uses:
    from kvsim.modes.training import is_learned

    learned = any(variant.config.policies.eviction == "learned" for variant in variants)
    trainable = any(is_learned(variant.config) for variant in variants)
    return Uses(mode.name, studies, outputs.needs_folder, learned=learned, trainable=trainable)


def _variants(command: PdCommand, mode: Mode, loaded: LoadedConfig, policy: str | None) -> list[Variant]:
    """What is compared: policies, or in a cluster without any named the rack's pool on and off."""
    from kvsim.config import load_config
    from kvsim.config.bundles import find_bundles
    from kvsim.config.load import set_values
    from kvsim.modes.tiered import Variant
    from kvsim.policy.eviction import EVICTIONS

    if policy is None and mode.name == "cluster":
        return _pool_on_and_off(loaded)
    names = SINGLE_POLICIES if policy is None else tuple(name.strip() for name in policy.split(","))
    variants = []
    if policy is None and loaded.config.policies != load_config().config.policies:
        variants.append(Variant("configured", loaded.config))
    given = {} if policy is None else set_values(command.sets)
    for bundle in find_bundles(names, list(EVICTIONS)):
        for key, value in set_values(bundle.sets).items():
            if given.get(key, value) != value:
                sets, asked = (f"{key}={json.dumps(found)}" for found in (value, given[key]))
                raise FlagError(f"--policy {bundle.name} sets {sets}: --set {asked} would go unused")
        every = (*command.sets, *bundle.sets)
        own = load_config(command.config, command.profile, command.preset, every, mode.name)
        variants.append(Variant(bundle.name, own.config))
    return variants


def _pool_on_and_off(loaded: LoadedConfig) -> list[Variant]:
    from kvsim.modes.tiered import Variant

    config = loaded.config
    cluster, tiers = config.cluster, config.cluster.tiers
    if "eic" not in tiers:
        return [Variant("configured", config)]
    without = cluster.model_copy(update={"tiers": tuple(name for name in tiers if name != "eic")})
    return [Variant("eic on", config), Variant("eic off", config.model_copy(update={"cluster": without}))]


def _simulate(command: PdCommand, mode: Mode, variants: Sequence[Variant], studies: tuple[str, ...]) -> Experiment:
    from kvsim.modes.tiered import run_tiered
    from kvsim.modes.training import Train
    from kvsim.report.progress import progress_bar

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return run_tiered(
        mode,
        variants,
        trace=command.trace,
        load=command.load,
        replicas=command.replicas,
        stepwise=command.stepwise,
        progress=partial(progress_bar, quiet=command.quiet),
        studies=studies,
        train=None if command.train_mode is None else Train(command.train_mode, command.train_fraction),
    )


def _print(report: dict[str, Any], *, quiet: bool) -> None:
    if quiet:
        from kvsim.report.tier_conclusion import conclude_tiers

        print(conclude_tiers(report))
        return
    from rich.console import Console

    from kvsim.report.tier_tables import print_tier_report

    print_tier_report(Console(highlight=False), report)
