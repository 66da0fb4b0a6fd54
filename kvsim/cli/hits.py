"""``hits``: how often a trace would hit caches of given sizes under given policies. No simulation.

Two questions are told apart. ``accesses``: each hash id is one access in the order of the file, as cache simulators
count. ``engine``: what an engine could use of it, whose blocks are evicted tails first and found from the head on.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import typer

from kvsim.cli.options import FORMS, JsonOut, TraceFile, count, counted_as, reads_traces, whole
from kvsim.cli.validate_text import wrapped
from kvsim.workload.reading import Reading

if TYPE_CHECKING:
    from kvsim.config.schema import Config
    from kvsim.policy.admission import AdmissionSettings
    from kvsim.policy.eviction import Eviction
    from kvsim.workload.accesses import Accesses

DEFAULT_SHARES = (0.01, 0.02, 0.05, 0.1, 0.25, 0.5)
"""Shares of the different blocks of a trace: the capacities that are tried where none are given."""

MEANING = {
    "accesses": "share of hash ids found, asked for one by one in the order of the file",
    "engine": "what an engine could use: tails go first, hits count from the head on",
}
Rates = dict[str, dict[str, dict[str, float]]]
"""Hit ratios by form, policy and capacity."""
USED_KEYS = ("policies.learned_model", "policies.selective_write_depth_threshold", "policies.ttl_s")
"""Keys of the configuration that mean something here; no other does."""


def capacities(text: str) -> str:
    """Whole numbers from 1 on, separated by commas."""
    return ",".join(str(count(each.strip())) for each in text.split(","))


@reads_traces
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
    form: Annotated[
        str | None,
        typer.Option(
            "--as",
            metavar="FORM",
            parser=counted_as,
            help="engine: what an engine could use, tails evicted first, hits from the head on: size a cache by it. "
            "accesses: one per hash id in the order of the file. Default: both, accesses in the JSON.",
        ),
    ] = None,
    json_out: JsonOut = None,
    *,
    reading: Reading,
) -> int:
    """Hit ratios of a trace by policy and capacity.

    Of what an engine could use, and of plain accesses to its hash ids.
    """
    names = _names(eviction)
    config = _config(sets or ())
    settings, model = _admission_settings(admission, config), _model(config)
    if json_out is not None:
        from kvsim.cli.outputs import check_file

        check_file("--json", json_out, {"the trace": file}, "JSON")
    from kvsim.workload.accesses import read_accesses

    accesses = read_accesses(file, reading)
    sizes = _sizes(capacity_blocks, accesses)
    forms = FORMS if form is None else (form,)
    cache = Cache(seed, admission, settings, model)
    report = _tried(names, sizes, forms, cache, accesses)
    if form is None:
        _print_reasons(names, sizes, cache, accesses, report)
    if json_out is not None:
        from kvsim.report.json_report import write_json

        write_json(json_out, report[FORMS[0] if form is None else form])
    return 0


def _names(given: str | None) -> list[str]:
    """Names of policies. Raises ``ConfigError`` for one that does not."""
    from kvsim.policy.eviction import EVICTIONS

    if given is None:
        return list(EVICTIONS)
    names = list(dict.fromkeys(name.strip() for name in given.split(",")))
    for name in names:
        EVICTIONS.find(name)
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
    """The model of the policy ``learned``. Raises ``ConfigError`` for one that cannot be used."""
    from kvsim.learned import read_model

    if config.policies.learned_model is not None:
        read_model(config.policies.learned_model)
    return config.policies.learned_model


def _admission_settings(name: str, config: Config) -> AdmissionSettings:
    """The configured settings. Raises ``ConfigError`` for them and for an unknown ``name``."""
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


@dataclass(frozen=True)
class Cache:
    """What is tried, beside a policy and a size."""

    seed: int
    admission: str
    settings: AdmissionSettings
    model: str | None
    """What ``learned`` evicts by; ``None``: the shipped one."""

    def ratio(self, name: str, size: int, form: str, accesses: Accesses) -> float:
        """Hits over accesses of an empty cache."""
        from kvsim.policy.admission import make_admission
        from kvsim.policy.eviction.replay import replay, replay_engine

        here = replace(self.settings, capacity_blocks=size)
        gate = None if self.admission == "all" else make_admission(self.admission, here)
        count_hits = replay_engine if form == "engine" else replay
        return count_hits(self.policy(name, size), accesses, gate) / len(accesses.keys)

    def policy(self, name: str, size: int) -> Eviction:
        from kvsim.policy.eviction import make_eviction
        from kvsim.policy.eviction.learned import Learned

        if name == "learned":
            return Learned.from_file(size, self.model, self.seed)
        return make_eviction(name, size, self.seed)


def _tried(names: Sequence[str], sizes: Sequence[int], forms: Sequence[str], cache: Cache, accesses: Accesses) -> Rates:
    """Hit ratios by form, policy and capacity; each policy's are printed as soon as they are known."""
    report: Rates = {form: {} for form in forms}
    labels = {(name, form): f"{name} {form}" if len(forms) > 1 else name for name in names for form in forms}
    width = max(map(len, (*labels.values(), "blocks")))
    _print_head(accesses, sizes, forms, width)
    for (name, form), label in labels.items():
        started_s = time.process_time()
        ratios = [cache.ratio(name, size, form, accesses) for size in sizes]
        cpu_s = max(time.process_time() - started_s, 1e-9)
        columns = "".join(f"{ratio:>10.4f}" for ratio in ratios)
        sys.stdout.write(f"{label:<{width}}{columns}{len(accesses.keys) * len(sizes) / cpu_s:>16,.0f}\n")
        sys.stdout.flush()
        report[form][name] = dict(zip(map(str, sizes), ratios, strict=True))
    return report


def _print_reasons(names: Sequence[str], sizes: Sequence[int], cache: Cache, accesses: Accesses, report: Rates) -> None:
    """Why the two forms differ, where each differs most from the other."""
    from kvsim.reasons.accesses import missing_head, tails_first

    plain, engine = report["accesses"], report["engine"]
    tried = [(plain[name][str(size)] - engine[name][str(size)], name, size) for name in names for size in sizes]
    gain, name, size = max(tried)
    if gain > 0 and cache.admission == "all":
        reason = missing_head(name, cache.policy(name, size), accesses)
        sys.stdout.write(f"why: {reason.sentence}\n" if reason is not None else "")
    _, name, size = min(tried)
    reason = tails_first(name, cache.policy(name, size), plain[name][str(size)], engine[name][str(size)])
    sys.stdout.write(f"why: {reason.sentence}\n" if reason is not None else "")


def _print_head(accesses: Accesses, sizes: Sequence[int], forms: Sequence[str], width: int) -> None:
    different = accesses.num_different
    what = f"{len(accesses.keys):,} accesses to {different:,} blocks of {len(accesses.time_s):,} prompts"
    most = f"a cache that forgets nothing hits {1 - different / len(accesses.keys):.4f}"
    sys.stdout.write(wrapped(f"{what}; {most}"))
    for form in forms:
        sys.stdout.write(wrapped(f"{form}: {MEANING[form]}"))
    columns = "".join(f"{size:>10,}" for size in sizes)
    sys.stdout.write(f"{'blocks':<{width}}{columns}{'accesses/CPU-s':>16}\n")
