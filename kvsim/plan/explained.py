"""Steps of the engine that a configuration describes, explained by what its step times know."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, replace

from kvsim.config import LoadedConfig
from kvsim.config.effect import without_effect
from kvsim.errors import ConfigError
from kvsim.plan.build_step_time import build_step_time, operators_of, shape_of
from kvsim.plan.data_parallel import exchange_between, fullest_of
from kvsim.plan.efficiencies import efficiencies_of
from kvsim.plan.engine_settings import EngineSettings
from kvsim.plan.instance import Instance, instance_of
from kvsim.plan.refused import unlike_servers
from kvsim.plan.unmodelled import undivided
from kvsim.steptime.batch import Batch, Decodes, PromptChunk
from kvsim.steptime.curves.base import StepTime
from kvsim.steptime.curves.lockstep import LockstepStepTime, steps_together
from kvsim.steptime.curves.pipeline import PipelineStepTime
from kvsim.steptime.curves.tables import TableStepTime
from kvsim.steptime.explain import Explanation, Known, explain_formula, explain_roofline, explain_tables, with_shared
from kvsim.steptime.work import remaining_allreduces

USUAL_CONTEXT_TOKENS = 1024
OF_STEPS = ("engine.", "steptime.")
MEASURED = {"tokens_per_step": "tokens", "decodes_per_step": "decodes", "context_tokens": "tokens of context"}


@dataclass(frozen=True)
class Passed:
    """A step's way through the stages of a pipeline."""

    stages_s: tuple[float, ...]
    sends_s: tuple[float, ...]
    """From each stage to the next."""

    @property
    def alone_s(self) -> float:
        """Through stages that are all free."""
        return sum(self.stages_s) + sum(self.sends_s)

    @property
    def every_s(self) -> float:
        """Seconds from the end of one to the end of the next where the pipeline is full of such steps: the slowest
        stage's, which sends on what it has before it begins the next."""
        return max(own + way for own, way in zip(self.stages_s, (*self.sends_s, 0.0), strict=True))


@dataclass(frozen=True)
class Explainer:
    """Explains steps of one instance."""

    loaded: LoadedConfig
    instance: Instance
    whole: StepTime | None = None
    """The step times of one stage that has all layers of a pipeline, which are explained; ``None``: there is none."""

    @property
    def known(self) -> Known:
        """How its step times are known; those that a profile or a configuration gives count as measured."""
        nearest, method = self.instance.nearest, self.loaded.config.steptime.method
        if nearest is None:
            return "modelled" if method == "roofline" else "measured"
        return "modelled" if nearest.level == "roofline" else nearest.level

    @property
    def profile(self) -> str | None:
        nearest = self.instance.nearest
        return self.loaded.provenance.name if nearest is None else nearest.name

    @property
    def is_tables(self) -> bool:
        return isinstance(self._own_times, TableStepTime)

    @property
    def engines_in_step(self) -> int:
        """Engines that take their steps together; 1: each takes its own."""
        together = steps_together(self.instance.step_time)
        return 1 if together is None else together.engines

    @property
    def _own_times(self) -> StepTime:
        """Without what engines compute together, and of all layers."""
        if self.whole is not None:
            return self.whole
        together = steps_together(self.instance.step_time)
        return self.instance.step_time if together is None else together.own

    def passed(self, batch: Batch) -> Passed | None:
        """How a step passes the stages of a pipeline; ``None``: there is none."""
        times = self.instance.step_time
        if not isinstance(times, PipelineStepTime):
            return None
        works = batch.chunk_work(times)
        stages_s = times.stages_s(
            batch.tokens, batch.seqs, batch.num_decodes, batch.kv_tokens, batch.longest_tokens, works
        )
        return Passed(tuple(stages_s), tuple(times.send_s(place, batch.tokens) for place in range(len(times.sends))))

    def explain(self, batch: Batch) -> Explanation:
        """Raises ``ConfigError`` for a step that the engine never runs. Where engines step together each of them runs
        it. Of a pipeline one stage that had all layers is explained."""
        check(batch, self.instance.settings)
        config, instance = self.loaded.config, self.instance
        spec, step_time, together = instance.spec, self._own_times, steps_together(instance.step_time)
        spec = replace(spec, pipeline_layers=())
        sizes = sorted(config.engine.cudagraph_capture_sizes)
        place = bisect_left(sizes, batch.tokens)
        tokens = sizes[place] if place < len(sizes) else batch.tokens
        if isinstance(step_time, TableStepTime):
            operators, shape = operators_of(config), shape_of(config, spec)
            if together is not None:
                shape = replace(shape, is_member=True, remaining_allreduces=remaining_allreduces(spec))
            found = explain_tables(step_time, spec, batch, tokens, operators, shape)
            return found if together is None else self._with_shared(found, together, tokens, "measured")
        efficiencies = efficiencies_of(config, spec)
        if self.known == "modelled" and together is None:
            return explain_roofline(step_time, spec, batch, tokens, efficiencies)
        found = explain_formula(step_time, spec, batch, tokens, self.known, efficiencies)
        return found if together is None else self._with_shared(found, together, tokens, self.known)

    @property
    def fullest(self) -> float:
        """Tokens of the GPU whose experts get most, over the mean."""
        return fullest_of(self.loaded.config, self.instance.spec) if self.engines_in_step > 1 else 1.0

    def _with_shared(self, own: Explanation, together: LockstepStepTime, tokens: int, known: Known) -> Explanation:
        spec, fullest = self.instance.spec, self.fullest
        exchange = exchange_between(self.loaded.config, spec, fullest)
        return with_shared(own, together, exchange, spec, fullest, tokens, known)

    def unmeasured(self, batch: Batch) -> Iterator[str]:
        """What of a step lies beyond what its profile was measured for."""
        nearest = self.instance.nearest
        facts = nearest.profile.facts if nearest is not None and nearest.profile is not None else {}
        validity = self.loaded.provenance.validity if nearest is None else facts.get("validity")
        if not isinstance(validity, dict):
            return
        asked = {
            "tokens_per_step": batch.tokens,
            "decodes_per_step": batch.num_decodes,
            "context_tokens": max([batch.longest_tokens, *(each.prefix_tokens for each in batch.chunks)]),
        }
        for key, value in asked.items():
            valid = validity.get(key)
            if isinstance(valid, list) and len(valid) == 2 and value > valid[1]:
                yield f"measured up to {valid[1]:,} {MEASURED[key]} only"


def warnings_of(explainer: Explainer) -> list[str]:
    """Sentences on what of the server is no server's, or has no effect here, and on times that are another's."""
    loaded, spec, nearest = explainer.loaded, explainer.instance.spec, explainer.instance.nearest
    is_radix = loaded.config.cache.prefix_cache == "radix"
    unused = [key for key in without_effect(loaded.config, "predict") if key.startswith(OF_STEPS)]
    return [
        *unlike_servers(loaded.config, spec.model),
        *([] if is_radix else undivided([spec])),
        *([f"set, but without effect on steps: {', '.join(unused)}"] if unused else []),
        *loaded.provenance.warnings,
        *([nearest.warning] if nearest is not None and nearest.warning is not None else []),
    ]


def explainer_of(loaded: LoadedConfig) -> Explainer:
    """An explainer of the unified instances. Raises a ``KvsimError`` where the configuration cannot be built."""
    method = loaded.config.engine.speculative.method
    if method is not None:
        raise ConfigError(f"engine.speculative.method = '{method}': steps that verify drafts are not explained")
    instance = instance_of(loaded.config)
    if not instance.spec.pipeline_layers:
        return Explainer(loaded, instance)
    known = build_step_time(loaded.config, replace(instance.spec, pipeline_layers=()))
    return Explainer(loaded, instance, known.step_time)


def check(batch: Batch, settings: EngineSettings) -> None:
    """Raise ``ConfigError`` for what the engine's limits keep it from running in one step."""
    tokens = max(
        [batch.longest_tokens, *(each.tokens + each.prefix_tokens for each in batch.chunks)],
        default=0,
    )
    for what, value, most, key in (
        ("tokens in a step", batch.tokens, settings.max_num_batched_tokens, "max_num_batched_tokens"),
        ("sequences in a step", batch.seqs, settings.max_num_seqs, "max_num_seqs"),
        ("tokens of a sequence", tokens, settings.max_model_len, "max_model_len"),
        ("blocks of KV", _blocks(batch, settings), settings.num_blocks, "the instance has"),
    ):
        if value > most:
            limit = f"{most:,} that {key}" if key == "the instance has" else f"{key} = {most:,}"
            raise ConfigError(f"a step of {words(batch)}: {value:,} {what}; allowed: up to the {limit}")


def _blocks(batch: Batch, settings: EngineSettings) -> int:
    held = [(each.count, each.context_tokens) for each in batch.decodes]
    held += [(1, each.tokens + each.prefix_tokens) for each in batch.chunks]
    return sum(count * -(-tokens // settings.block_size) for count, tokens in held)


def usual_batches(settings: EngineSettings) -> tuple[Batch, ...]:
    """One request that decodes, as many as there is room for, a prompt as long as a step takes, and both in one."""
    context = min(USUAL_CONTEXT_TOKENS, settings.max_model_len)
    blocks = -(-context // settings.block_size)
    full = max(1, min(settings.max_num_seqs, settings.max_num_batched_tokens, settings.num_blocks // blocks))
    longest = min(settings.max_model_len - 1, settings.room_tokens, settings.max_num_batched_tokens)
    found = [Batch((Decodes(1, context),)), Batch((Decodes(full, context),)), Batch(chunks=(PromptChunk(longest),))]
    half = full // 2
    left = min(
        longest, settings.max_num_batched_tokens - half, (settings.num_blocks - half * blocks) * settings.block_size
    )
    if half and left > 0:
        found.append(Batch((Decodes(half, context),), (PromptChunk(left),)))
    return tuple(dict.fromkeys(found))


def words(batch: Batch) -> str:
    """``32 decodes on 4,096 tokens, a prompt of 2,048 tokens behind 512``."""
    found = [
        f"{each.count:,} decode{'' if each.count == 1 else 's'} on {each.context_tokens:,} tokens"
        for each in batch.decodes
    ]
    for each in batch.chunks:
        behind = f" behind {each.prefix_tokens:,}" if each.prefix_tokens else ""
        found.append(f"a prompt of {each.tokens:,} tokens{behind}")
    return ", ".join(found)
