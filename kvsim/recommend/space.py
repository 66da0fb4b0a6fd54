"""Every candidate that can be built, and the plan of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from kvsim.config import Given, LoadedConfig, load_config
from kvsim.config.load import set_values
from kvsim.errors import CapacityError, ConfigError
from kvsim.launch import LaunchLine
from kvsim.plan.deployment import load_deployment, server_keys
from kvsim.plan.mode import PREDICT
from kvsim.plan.plan import Plan, make_plan
from kvsim.recommend.candidates import Arguments, Candidate, Counts, Family
from kvsim.recommend.question import Question
from kvsim.record.labels import counted
from kvsim.spec import find_model

_RATIOS = (0.5, 1.0, 2.0)
"""GPUs of a decode engine over those of a prefill engine."""
_SOUGHT = {
    "model.name": "",
    "engine.tensor_parallel_size": ", or --tensor-parallel-size N in LINE",
    "engine.data_parallel_size": ", or --data-parallel-size N in LINE",
    "engine.enable_expert_parallel": ", or --enable-expert-parallel in LINE",
    "pd_separation.prefill_tensor_parallel_size": "",
    "pd_separation.decode_tensor_parallel_size": "",
    "pd_separation.pd_ratio": "",
}
"""Keys that a candidate or the line sets, and what fixes one for all: with another value a name would be another's."""
_ASKING = ("recommend", "cost", "slo", "seed", "experiments", "studies", "load", "output")
"""Sections that say what is asked, and nothing of servers."""
_MOST_HOSTS = 2
"""Hosts that engines sharing experts are spread over, at the most."""


@dataclass(frozen=True)
class Dropped:
    """Degrees of which no server can be built, and why."""

    family: Family
    kind: str
    """``memory``, ``heads`` or ``refused``."""
    why: str


class Space:
    """Candidates of a question: families that fit, and the arguments that are tried."""

    def __init__(self, question: Question) -> None:
        """Raises ``ConfigError`` for a line, a GPU or a setting that cannot be used."""
        self._question = question
        self.loaded = question.load()
        config = self.loaded.config
        self.settings = config.recommend
        self.most_gpus = question.gpus or self.settings.most_gpus
        self.model = find_model(config.model.name)
        self._set = set_values(question.sets)
        self._check()
        self._plans: dict[Candidate, Plan] = {}
        self._known: dict[tuple[Family, int, int], tuple[str, str] | None] = {}
        self.dropped: list[Dropped] = []

    def _check(self) -> None:
        """Raise ``ConfigError`` for what candidates differ in or cannot be counted with."""
        for key in _SOUGHT:
            if key in self._set:
                raise ConfigError(f"--set {key}: LINE and the search give it; allowed: leave it out{_SOUGHT[key]}")
        if "hardware.gpu" in self._set and self._question.gpu is not None:
            raise ConfigError("--gpu and --set both give hardware.gpu; give one")
        stages = self.loaded.config.engine.pipeline_parallel_size
        if stages > 1:
            raise ConfigError(
                f"engine.pipeline_parallel_size = {stages}: recommend compares engines of one stage; allowed: 1"
            )

    @cached_property
    def families(self) -> tuple[Family, ...]:
        """Families that fit; what does not is in ``dropped`` then. Raises ``CapacityError`` where none does."""
        families = list(self._all_families())
        inside = [family for family in families if max(family.server_gpus) <= self._host_gpus]
        found = [family for family in inside if self._fits(family)]
        if not found:
            # Only what fits no host is spread over several.
            found = [family for family in families if family not in inside and self._fits(family)]
        if not found:
            raise CapacityError(self._nearest())
        return tuple(found)

    def arguments(self, family: Family, routes: bool) -> tuple[Arguments, ...]:
        """What is tried of a family that fits, the engine's own defaults first, without what leaves too little memory
        for a server to start. ``routes``: whether routing by prefix can matter.
        """
        return tuple(one for one in self._listed(routes) if self._refused(family, one) is None)

    def _listed(self, routes: bool) -> tuple[Arguments, ...]:
        given, engine = self._question.launch.arguments, self.loaded.config.engine
        own = engine.max_num_batched_tokens, engine.max_num_seqs
        budgets = self._tried("max_num_batched_tokens", own[0], self.settings.max_num_batched_tokens)
        if given.get("enable_chunked_prefill") is False:
            budgets = [own[0]]
        seats = self._tried("max_num_seqs", own[1], self.settings.max_num_seqs)
        routings = self._routings() if routes else self._routings()[:1]
        tiers = [self._tiers_given] if not self._question.tiers else [(), self._question.tiers]
        return tuple(
            dict.fromkeys(
                Arguments(budget, min(seat, budget), routing, tuple(tier))
                for tier in tiers
                for routing in routings
                for seat in seats
                for budget in budgets
            )
        )

    def _refused(self, family: Family, arguments: Arguments) -> tuple[str, str] | None:
        """Which kind of thing keeps a server with these arguments from being built, and what; ``None``: nothing."""
        key = family, arguments.max_num_batched_tokens, arguments.max_num_seqs
        if key not in self._known:
            try:
                self._known[key] = self._unstartable(self.plan(self.smallest(family, arguments)))
            except CapacityError as error:
                self._known[key] = "memory", str(error)
            except ConfigError as error:
                self._known[key] = "refused", str(error)
        return self._known[key]

    def _tried(self, name: str, own: int, listed: tuple[int, ...]) -> list[int]:
        """The server's own value alone where somebody gave it, else first."""
        if name in self._question.launch.arguments or f"engine.{name}" in self._set:
            return [own]
        return list(dict.fromkeys((own, *listed)))

    def _routings(self) -> list[str]:
        if "routing.prefill" in self._set:
            return [self.loaded.config.routing.prefill]
        return list(self.settings.routing)

    @property
    def unsaid(self) -> dict[str, Any]:
        """Keys that somebody set of what serves, which the servers' lines do not say."""
        said = ("routing.prefill", "engine.max_num_seqs", "engine.max_num_batched_tokens")
        return {
            key: value for key, value in self._set.items() if key not in said and key.partition(".")[0] not in _ASKING
        }

    @property
    def _tiers_given(self) -> tuple[str, ...]:
        return tuple(self.loaded.config.pd_separation.tiers)

    def _all_families(self) -> Iterator[Family]:
        degrees, given = self._degrees(), self._question.launch.arguments
        groups = [int(str(given["data_parallel_size"]))] if "data_parallel_size" in given else self._groups()
        for data in groups:
            for degree in degrees:
                if degree * data > self._most_of_server(data):
                    continue
                yield Family("unified", degree, degree, data)
                if data > 1:
                    yield from self._pairs(degree, [degree], data)
                else:
                    yield from self._pairs(degree, degrees, data)

    def _pairs(self, prefill: int, degrees: list[int], data: int) -> Iterator[Family]:
        for decode in degrees:
            if decode / prefill in _RATIOS and (prefill + decode) * data <= self.most_gpus:
                yield Family("pd", prefill, decode, data)

    def _most_of_server(self, data: int) -> int:
        if data == 1 or "data_parallel_size" in self._question.launch.arguments:
            return self.most_gpus
        return min(self.most_gpus, _MOST_HOSTS * self._host_gpus)

    def _degrees(self) -> list[int]:
        """Powers of two inside a host, unless the line gives one."""
        given = self._question.launch.arguments.get("tensor_parallel_size")
        if given is not None:
            return [int(str(given))]
        most = min(self._host_gpus, self.most_gpus)
        return [2**power for power in range(most.bit_length()) if 2**power <= most]

    def _groups(self) -> list[int]:
        """Engines that share experts; a dense model's share nothing."""
        most = min(_MOST_HOSTS * self._host_gpus, self.most_gpus) if self.model.is_moe else 1
        return [2**power for power in range(most.bit_length()) if 2**power <= most]

    @property
    def _host_gpus(self) -> int:
        return self.loaded.config.cluster.network.gpus_per_host

    def _fits(self, family: Family) -> bool:
        why = self._why_not(family)
        if why is not None:
            self.dropped.append(Dropped(family, *why))
        return why is None

    def _why_not(self, family: Family) -> tuple[str, str] | None:
        """Which kind of thing keeps such servers from being built, and what; ``None``: nothing."""
        for degree in {family.prefill, family.decode}:
            if self.model.num_heads % degree:
                return "heads", f"{self.model.num_heads} attention heads do not divide among {degree} GPUs"
        if family.gpus(family.smallest) > self.most_gpus:
            return "GPUs", f"the smallest takes {family.gpus(family.smallest)} GPUs, and there are {self.most_gpus}"
        every = [self._refused(family, arguments) for arguments in self._listed(routes=False)]
        return None if None in every else every[0]

    def _unstartable(self, plan: Plan) -> tuple[str, str] | None:
        """Servers that vLLM does not start: their KV cache holds no request of the longest length."""
        config, tokens = plan.config, plan.config.model.max_model_len
        if config.engine.num_gpu_blocks_override is not None:
            return None
        for instance in (plan.prefill, plan.decode):
            if instance.spec.max_concurrency(tokens) < 1:
                held = instance.spec.num_blocks * instance.spec.block_size_tokens
                return "memory", (
                    f"TP{instance.degree} leaves a KV cache of {held:,} tokens, which holds no request of "
                    f"max_model_len = {tokens:,}; a smaller --max-model-len would fit"
                )
        return None

    def smallest(self, family: Family, arguments: Arguments | None = None) -> Candidate:
        """The fewest servers, with the engine's own arguments unless others are given."""
        return Candidate(family, family.smallest, arguments or self.arguments(family, routes=False)[0])

    def _nearest(self) -> str:
        """What comes nearest to fitting where nothing does, and what it lacks."""
        fewer = [one for one in self.dropped if one.kind in ("memory", "refused")] or self.dropped
        if not fewer:
            return f"--gpus is {self.most_gpus}: no server of {self.model.name} fits; allowed: more GPUs"
        nearest = max(fewer, key=lambda one: (one.family.system == "unified", sum(one.family.server_gpus)))
        degrees = nearest.family.degrees
        return f"no deployment fits {counted(self.most_gpus, 'GPU')}; the nearest is {degrees}: {nearest.why}"

    def plan(self, candidate: Candidate) -> Plan:
        """What a candidate runs on. Raises a ``KvsimError`` where it cannot be built."""
        if candidate not in self._plans:
            self._plans[candidate] = self._built(candidate)
        return self._plans[candidate]

    def launch(self, candidate: Candidate) -> LaunchLine:
        """The line of an engine of a candidate, of a degree that both kinds of its engines have or the smaller."""
        own, family = candidate.arguments, candidate.family
        changed: dict[str, object] = {
            "tensor_parallel_size": min(family.prefill, family.decode),
            "max_num_batched_tokens": own.max_num_batched_tokens,
            "max_num_seqs": own.max_num_seqs,
        }
        if family.data_parallel > 1:
            changed["data_parallel_size"] = family.data_parallel
            if self.model.is_moe:
                changed.setdefault("enable_expert_parallel", True)
        given = dict(self._question.launch.arguments)
        if "enable_expert_parallel" in given:
            changed.pop("enable_expert_parallel", None)
        return replace(self._question.launch, arguments=given | changed)

    def loaded_of(self, candidate: Candidate) -> LoadedConfig:
        """The configuration of a candidate."""
        question, own, family = self._question, candidate.arguments, candidate.family
        launch, counts = self.launch(candidate), candidate.counts
        sets = [*question.sets, f"routing.prefill={own.routing}"]
        if question.tiers:
            sets.append(f"pd_separation.tiers=[{', '.join(own.tiers)}]")
        if not family.is_pd:
            return load_deployment(launch, gpu=question.gpu, instances=counts[0], profile=question.profile, sets=sets)
        engines = [count * family.data_parallel for count in counts]
        gpu = self.loaded.config.hardware.gpu
        size = server_keys("pd", None, gpus=candidate.gpus, tensor_parallel=max(family.prefill, family.decode))
        values: dict[str, Any] = {}
        for given in (size, server_keys("pd", launch, gpu=question.gpu or gpu)):
            values |= {} if given is None else given.values
        values |= {
            "pd_separation.prefill_tensor_parallel_size": family.prefill,
            "pd_separation.decode_tensor_parallel_size": family.decode,
            "pd_separation.pd_ratio": engines,
            "engine.tune_colocated_budget": False,
        }
        return load_config(None, question.profile, None, sets, "pd", Given("the candidate", values))

    def _built(self, candidate: Candidate) -> Plan:
        config = self.loaded_of(candidate).config
        if not candidate.family.is_pd:
            return PREDICT.plan(config)
        data = candidate.family.data_parallel
        return make_plan(config).with_counts(candidate.counts[0] * data, candidate.counts[1] * data)

    def candidates(self, family: Family, counts: Counts, routes: bool) -> list[Candidate]:
        """All arguments of so many servers; routing where there is something to choose."""
        return [Candidate(family, counts, arguments) for arguments in self.arguments(family, routes and counts[0] > 1)]

    def count(self, total_most: int, routes: bool) -> int:
        """Candidates there are, of up to so many GPUs."""
        return sum(
            len(self.arguments(family, routes and counts[0] > 1))
            for family in self.families
            for total in family.totals(total_most)
            for counts in family.splits(total)
        )
