"""Drives SGLang's own scheduler through one trace and writes down what it does; record.py tells what and when."""
# ruff: noqa: E402 (the environment must be set before SGLang is imported)

import logging
import os
import time
from array import array
from collections import deque
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

os.environ["HF_HUB_OFFLINE"] = "1"
import stand_ins

stand_ins.install()
logging.disable(logging.WARNING)

import torch
from sglang.srt.disaggregation.utils import DisaggregationMode
from sglang.srt.managers import scheduler as scheduler_module
from sglang.srt.managers.schedule_batch import Req, ScheduleBatch
from sglang.srt.managers.scheduler import Scheduler
from sglang.srt.managers.scheduler_components.batch_result_processor import SchedulerBatchResultProcessor
from sglang.srt.managers.utils import GenerationBatchResult
from sglang.srt.mem_cache.allocator.paged import PagedTokenToKVPoolAllocator
from sglang.srt.mem_cache.allocator.token import TokenToKVPoolAllocator
from sglang.srt.mem_cache.cache_init_params import CacheInitParams
from sglang.srt.mem_cache.memory_pool import ReqToTokenPool
from sglang.srt.mem_cache.radix_cache import RadixCache
from sglang.srt.mem_cache.unified_cache.component_type import ComponentType
from sglang.srt.mem_cache.unified_radix_cache import UnifiedRadixCache
from sglang.srt.runtime_context import get_context
from sglang.srt.sampling.sampling_params import SamplingParams
from sglang.srt.speculative.spec_info import SpeculativeAlgorithm

Config = dict[str, Any]
Record = dict[str, Any]

STEP_LIMIT = 20_000
_published: Any = None

scheduler_module.get_resolved_model_impl = lambda model_config: None


def publish(config: Config) -> None:
    """SGLang's process-wide configuration, of a server with these arguments on a machine without a GPU."""
    global _published
    if _published is not None:
        _published.restore()
    names = ["page_size", "chunked_prefill_size", "max_prefill_tokens", "schedule_policy", "enable_mixed_chunk"]
    names += ["schedule_conservativeness", "disable_overlap_schedule", "max_running_requests", "disable_radix_cache"]
    _published = get_context().override_server_args(
        device="cpu",
        attention_backend="torch_native",
        pp_max_micro_batch_size=config["max_running_requests"],
        **{name: config[name] for name in names},
    )
    _published.install()


class DrivenScheduler(Scheduler):
    """SGLang's scheduler and its event loops, with all that they own but for the model, its sampling, and the world
    outside: requests come from a list, and the model's output is known."""

    def __init__(self, config: Config, requests: list[Record]) -> None:
        publish(config)
        self._own_settings(config)
        self._own_memory(config)
        self.init_running_status()
        self.init_chunked_prefill()
        self.init_schedule_policy()
        self._outsiders()
        self.requests = [dict(request) for request in requests]
        self.by_id = {request["id"]: request for request in self.requests}
        self.coming = deque(self.requests)
        self.idle_steps = 0
        self.steps: list[Record] = []
        self._retracted: list[str] = []
        self._passes = 0
        self._has_idled = True

    def _own_settings(self, config: Config) -> None:
        self.model_config = SimpleNamespace(
            vocab_size=1024, is_encoder_decoder=False, is_multimodal=False, context_len=1 << 20, hf_config=None
        )
        self.model_config.hf_eos_token_id = self.model_config.think_end_ids = None
        self.model_config.self_opened_think_start_ids = None
        self.device = "cpu"
        self.page_size = config["page_size"]
        self.schedule_policy = config["schedule_policy"]
        self.max_prefill_tokens = config["max_prefill_tokens"]
        self.max_running_requests = config["max_running_requests"]
        self.enable_overlap = not config["disable_overlap_schedule"]
        self.spec_algorithm = SpeculativeAlgorithm.from_string(None)
        self.disaggregation_mode = DisaggregationMode.NULL
        self.priority_scheduling_preemption_threshold = 0
        for name in ("is_generation", "schedule_low_priority_values_first"):
            setattr(self, name, name == "is_generation")
        switched_off = "enable_overlap_mlx enable_priority_scheduling enable_hierarchical_cache enable_hicache_storage"
        switched_off += " enable_lmcache enable_unified_cache_external_linker enable_lora enable_hisparse enable_pdmux"
        switched_off += " is_hybrid_swa is_hybrid_ssm require_mlp_sync enable_unified_memory enable_fpm"
        for name in switched_off.split():
            setattr(self, name, False)
        absent = "dllm_config decode_offload_manager hisparse_coordinator draft_worker truncation_align_size"
        absent += " min_free_slots_delayer dynamic_chunk_sizer lora_drainer max_queued_requests sliding_window_size"
        absent += " scripted_scheduler_hook"
        for name in absent.split():
            setattr(self, name, None)
        self.forward_ct = self.processed_tokens_counter = 0
        self._sched_idled = False

    def _own_memory(self, config: Config) -> None:
        size, page = config["max_total_num_tokens"], config["page_size"]
        self.max_total_num_tokens = size
        self.req_to_token_pool = ReqToTokenPool(config["request_slots"], config["context_length"], "cpu", False)
        if page == 1:
            allocator: Any = TokenToKVPoolAllocator(size, torch.float16, "cpu", None, False)
        else:
            allocator = PagedTokenToKVPoolAllocator(size, page, torch.float16, "cpu", None, False)
            allocator.use_triton_kernels = False
        self.token_to_kv_pool_allocator = allocator
        params = CacheInitParams(
            disable=config["disable_radix_cache"],
            req_to_token_pool=self.req_to_token_pool,
            token_to_kv_pool_allocator=allocator,
            page_size=page,
        )
        if config["cache"] == "RadixCache":
            self.tree_cache = RadixCache(params)
        else:
            params.tree_components = (ComponentType.FULL,)
            params.tree_core_backend = config["cache"]
            self.tree_cache = UnifiedRadixCache(params)

    def _outsiders(self) -> None:
        """What neither decides nor remembers anything that is recorded."""
        self.metrics_reporter = MagicMock(num_generated_tokens=0, forward_ct_decode=0)
        self.scheduler_stage_metrics = MagicMock()
        for name in ("grammar_manager", "dp_attn_adapter", "ngram_embedding_manager", "tp_worker", "load_inquirer"):
            setattr(self, name, MagicMock())
        self.grammar_manager.has_waiting_grammars.return_value = False
        self.dp_attn_adapter.maybe_prepare_mlp_sync_batch.side_effect = lambda batch, **_: batch
        self.dp_attn_adapter.maybe_convert_decode_to_extend.side_effect = lambda batch: batch
        self.ngram_embedding_manager.prepare_for_forward.side_effect = lambda batch, **_: batch
        self.load_inquirer._get_num_pending_tokens.return_value = 0
        self.tp_worker.model_runner.prefill_aware_swa = False
        self.beam_coordinator = MagicMock()
        self.beam_coordinator.pending_member_rows.return_value = 0
        self.beam_coordinator.commit_decode.return_value = set()
        self.future_map = MagicMock()
        self.batch_result_processor = SchedulerBatchResultProcessor(
            is_generation=True,
            disaggregation_mode=self.disaggregation_mode,
            enable_overlap=self.enable_overlap,
            enable_overlap_mlx=False,
            model_config=self.model_config,
            token_to_kv_pool_allocator=self.token_to_kv_pool_allocator,
            tree_cache=self.tree_cache,
            hisparse_coordinator=None,
            req_to_token_pool=self.req_to_token_pool,
            decode_offload_manager=None,
            metrics_collector=MagicMock(),
            metrics_reporter=self.metrics_reporter,
            draft_worker=None,
            model_worker=SimpleNamespace(),
            logprob_result_processor=MagicMock(),
            output_streamer=MagicMock(),
            beam_coordinator=self.beam_coordinator,
            abort_request=MagicMock(),
        )

    # What the event loops call.

    def run(self) -> list[Record]:
        (self.event_loop_overlap if self.enable_overlap else self.event_loop_normal)()
        return self.steps

    def ingest_requests(self, stop_at_pause: bool = False) -> list[Any]:
        now = len(self.steps)
        if now >= STEP_LIMIT:
            raise RuntimeError(f"{STEP_LIMIT} steps and no end")
        is_idle = (
            not self.waiting_queue and self.running_batch.is_empty() and not self.last_batch and not self.chunked_req
        )
        if is_idle and self.coming and self._has_idled:
            self.idle_steps = max(self.idle_steps, self.coming[0]["arrival_step"] - now)
        if is_idle and not self.coming and not self.result_queue:
            self.gracefully_exit = True
        while self.coming and self.coming[0]["arrival_step"] - self.idle_steps <= now:
            request = self.coming.popleft()
            request["arrival_step"], request["arrival_pass"] = now, self._passes
            self._add_request_to_queue(self.as_sglang(request))
        return []

    def as_sglang(self, request: Record) -> Req:
        params = SamplingParams(max_new_tokens=request["max_new_tokens"], ignore_eos=request["ignore_eos"])
        params.normalize(None)
        return Req(request["id"], "", array("q", request["prompt_token_ids"]), params, vocab_size=1024)

    def _prefetch_kvcache(self, req: Req, storage_hit_end: Any = None) -> None:
        pass

    def _set_or_validate_priority(self, req: Req) -> bool:
        return True

    def _abort_on_queued_limit(self, recv_req: Any) -> bool:
        return False

    def get_next_batch_to_run(self, running_batch: ScheduleBatch, last_batch: ScheduleBatch | None) -> Any:
        self._retracted, self._has_idled = [], False
        plan = super().get_next_batch_to_run(running_batch=running_batch, last_batch=last_batch)
        if plan.batch_to_run is None and not self._retracted:
            self._passes += 1
            return plan
        self._passes = 0
        self.steps.append(self.observed(plan.batch_to_run, plan.running_batch))
        return plan

    def _add_request_to_queue(self, req: Req, is_retracted: bool = False) -> None:
        if is_retracted:
            self._retracted.append(req.rid)
        super()._add_request_to_queue(req, is_retracted)

    def observed(self, batch: ScheduleBatch | None, running: ScheduleBatch) -> Record:
        prefills: list[Any] = []
        decodes: list[str] = []
        if batch is not None and batch.forward_mode.is_extend():
            decoding = set(batch.decoding_reqs or ())
            for place, req in enumerate(batch.reqs):
                if req in decoding:
                    decodes.append(req.rid)
                else:
                    prefills.append([req.rid, batch.prefix_lens[place], batch.extend_lens[place]])
        elif batch is not None:
            decodes = [req.rid for req in batch.reqs]
        return {
            "step": len(self.steps),
            "prefills": prefills,
            "decodes": decodes,
            "running": [req.rid for req in running.reqs],
            "waiting": [req.rid for req in self.waiting_queue],
            "retracted": list(self._retracted),
            "free_tokens": int(self.token_to_kv_pool_allocator.available_size()),
            "evictable_tokens": int(self.tree_cache.evictable_size()),
            "new_token_ratio": self.new_token_ratio_tracker.current,
        }

    def run_batch(self, batch: ScheduleBatch, pp_proxy_tensors: Any = None) -> GenerationBatchResult:
        self.forward_ct += 1
        batch.forward_iter, batch.launch_ts = self.forward_ct, time.monotonic()
        return GenerationBatchResult()

    def process_batch_result(self, batch: ScheduleBatch, result: Any) -> None:
        self._give_tokens(batch, result)
        processor = self.batch_result_processor
        if batch.forward_mode.is_decode():
            processor.process_batch_result_decode(batch, result)
        else:
            processor.process_batch_result_prefill(batch, result)
        self.tree_cache.flush_pending_backups()

    def _give_tokens(self, batch: ScheduleBatch, result: Any) -> None:
        """The known answer's next token, of each request as far as it is when the result is looked at."""
        tokens = []
        for req in batch.reqs:
            known, place = self.by_id[req.rid]["output_token_ids"], len(req.output_ids)
            tokens.append(known[place] if place < len(known) else 0)
        result.next_token_ids = torch.tensor(tokens, dtype=torch.int64)

    def on_idle(self) -> None:
        """The one thing of SGLang's own that decides: an idle scheduler forgets what retractions have taught it."""
        if not self.waiting_queue and self.chunked_req is None and self.running_batch.is_empty():
            self.new_token_ratio_tracker.reset()
        self._has_idled = True

    def _apply_war_barrier(self) -> None:
        pass

    def launch_batch_sample_if_needed(self, batch_result: Any, batch: Any) -> None:
        pass
