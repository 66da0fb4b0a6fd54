"""``hits``: how often a trace would hit caches of given sizes under given policies. No simulation."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from kvsim.cli.options import JsonOut, TraceFile, WorkloadFormat, count, whole

if TYPE_CHECKING:
    from kvsim.config.schema import Config
    from kvsim.policy.admission import AdmissionSettings
    from kvsim.policy.eviction import Eviction
    from kvsim.workload.accesses import Accesses

DEFAULT_SHARES = (0.01, 0.02, 0.05, 0.1, 0.25, 0.5)
"""Of the different blocks of a trace: the capacities that are tried where none are given."""

USED_KEYS = ("policies.learned_model", "policies.selective_write_depth_threshold", "policies.ttl_s")
"""Of the configuration; no other has a meaning here."""


def capacities(text: str) -> str:
    """Whole numbers from 1 on, separated by commas."""
    return ",".join(str(count(each.strip())) for each in text.split(","))


def hits(
    file: TraceFile,
    eviction: Annotated[
        str | None, typer.Option(metavar="NAME,NAME", help="Policies, or package.module:Class; default: all known.")
    ] = None,
    capacity_blocks: Annotated[
        str | None,
        typer.Option(metavar="N,N", parser=capacities, help="Blocks of the cache; default: 1 to 50% of the trace's."),
    ] = None,
    admission: Annotated[str, typer.Option(metavar="NAME", help="all, selective_write, ttl or second_hit.")] = "all",
    sets: Annotated[
        list[str] | None, typer.Option("--set", metavar="A.B=C", help="Set policies.ttl_s, learned_model or another.")
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", parser=whole, help="Of policies that draw.")] = 0,
    workload_format: WorkloadFormat = "auto",
    json_out: JsonOut = None,
) -> int:
    """Hit ratios of a trace by policy and capacity, one access per hash id in the order of the file."""
    names = _names(eviction)
    config = _config(sets or ())
    settings, model = _admission_settings(admission, config), _model(config)
    if json_out is not None:
        from kvsim.cli.outputs import check_file

        check_file("--json", json_out, {"the trace": file})
    from kvsim.workload.accesses import read_accesses

    accesses = read_accesses(file, workload_format)
    sizes = _sizes(capacity_blocks, accesses)
    report = _tried(names, sizes, seed, accesses, admission, settings, model)
    if json_out is not None:
        from kvsim.report.json_report import write_json

        write_json(json_out, report)
    return 0


def _names(given: str | None) -> list[str]:
    """Those of policies that exist. Raises ``ConfigError`` for one that does not."""
    from kvsim.policy.eviction import EVICTIONS, eviction_class

    if given is None:
        return list(EVICTIONS)
    names = list(dict.fromkeys(name.strip() for name in given.split(",")))
    for name in names:
        eviction_class(name)
    return names


def _config(sets: Sequence[str]) -> Config:
    """With these keys set. Raises ``ConfigError`` for one that is wrong, and for one without a meaning here."""
    from kvsim.config.load import load_config, set_values
    from kvsim.errors import ConfigError

    config = load_config(sets=sets, mode="traffic").config
    for key in set_values(sets):
        if key not in USED_KEYS:
            raise ConfigError(f"--set: hits does not use '{key}'; it uses {', '.join(USED_KEYS)}")
    return config


def _model(config: Config) -> str | None:
    """That of the policy ``learned``. Raises ``ConfigError`` for one that cannot be used."""
    from kvsim.learned import read_model

    if config.policies.learned_model is not None:
        read_model(config.policies.learned_model)
    return config.policies.learned_model


def _admission_settings(name: str, config: Config) -> AdmissionSettings:
    """Those of the configuration. Raises ``ConfigError`` for them and for an unknown ``name``."""
    from kvsim.policy.admission import AdmissionSettings, make_admission

    policies = config.policies
    settings = AdmissionSettings(1, policies.selective_write_depth_threshold, policies.ttl_s)
    make_admission(name, settings)
    return settings


def _sizes(given: str | None, accesses: Accesses) -> list[int]:
    if given is not None:
        sizes = [int(each) for each in given.split(",")]
    else:
        different = accesses.num_different
        sizes = [max(1, int(share * different)) for share in DEFAULT_SHARES]
    return list(dict.fromkeys(sizes))


def _tried(
    names: Sequence[str],
    sizes: Sequence[int],
    seed: int,
    accesses: Accesses,
    admission: str,
    settings: AdmissionSettings,
    model: str | None,
) -> dict[str, dict[str, float]]:
    """Hit ratios by policy and capacity; each policy's are printed as soon as they are known."""
    report: dict[str, dict[str, float]] = {}
    width = max(map(len, (*names, "blocks")))
    _print_head(accesses, sizes, width)
    for name in names:
        started_s = time.process_time()
        ratios = [_ratio(_made(name, size, seed, model), accesses, admission, settings) for size in sizes]
        cpu_s = max(time.process_time() - started_s, 1e-9)
        columns = "".join(f"{ratio:>10.4f}" for ratio in ratios)
        sys.stdout.write(f"{name:<{width}}{columns}{len(accesses.keys) * len(sizes) / cpu_s:>16,.0f}\n")
        sys.stdout.flush()
        report[name] = dict(zip(map(str, sizes), ratios, strict=True))
    return report


def _made(name: str, size: int, seed: int, model: str | None) -> Eviction:
    """An empty cache; ``model``: what ``learned`` evicts by, ``None`` for the shipped one."""
    from kvsim.policy.eviction import make_eviction
    from kvsim.policy.eviction.learned import Learned

    return Learned.from_file(size, model, seed) if name == "learned" else make_eviction(name, size, seed)


def _ratio(policy: Eviction, accesses: Accesses, admission: str, settings: AdmissionSettings) -> float:
    from kvsim.policy.admission import make_admission
    from kvsim.policy.eviction.replay import replay

    here = replace(settings, capacity_blocks=policy.capacity_blocks)
    gate = None if admission == "all" else make_admission(admission, here)
    return replay(policy, accesses, gate) / len(accesses.keys)


def _print_head(accesses: Accesses, sizes: Sequence[int], width: int) -> None:
    different = accesses.num_different
    sys.stdout.write(
        f"{len(accesses.keys):,} accesses to {different:,} blocks of {len(accesses.time_s):,} prompts; "
        f"a cache that forgets nothing hits {1 - different / len(accesses.keys):.4f}\n"
    )
    columns = "".join(f"{size:>10,}" for size in sizes)
    sys.stdout.write(f"{'blocks':<{width}}{columns}{'accesses/CPU-s':>16}\n")
