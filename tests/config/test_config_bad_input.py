"""Everything a person gets wrong is answered by one line that says what, where and what is allowed."""

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kvsim.config import load_config
from kvsim.errors import ConfigError, KvsimError


def refused(**sources) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(**sources)
    message = str(caught.value)
    assert "\n" not in message and "\r" not in message
    assert "pydantic" not in message and "Input" not in message and "tuple" not in message.lower()
    return message


SETS = {
    "engine.blok_size=16": "--set: unknown key 'engine.blok_size'; did you mean 'block_size'?",
    "block_size=16": "unknown key 'block_size'; did you mean 'engine.block_size'?",
    "engin.block_size=16": "unknown key 'engin'; did you mean 'engine'?",
    "xyzzy=1": "unknown key 'xyzzy'; known: agent_trace, autoscale, cache,",
    "presets.smoke.cluster.simulate_racks=1": "unknown key 'presets'",
    "engine.block_size.x=1": "engine.block_size = {'x': 1}: must be an integer",
    "engine.block_size=0": "engine.block_size = 0: must be greater than or equal to 1",
    "engine.block_size=-16": "must be greater than or equal to 1",
    "engine.block_size=16.0": "engine.block_size = 16.0: must be an integer",
    "engine.block_size=true": "engine.block_size = true: must be an integer",
    "engine.block_size='16'": "engine.block_size = '16': must be an integer",
    "engine.block_size=": "engine.block_size = null: must be an integer",
    "engine.enable_prefix_caching=1": "enable_prefix_caching = 1: must be a boolean",
    "engine.gpu_memory_utilization=1.5": "gpu_memory_utilization = 1.5: must be less than or equal to 1",
    "engine.gpu_memory_utilization=0": "must be greater than 0",
    "engine.watermark=1": "engine.watermark = 1: must be less than 1",
    "engine.colocated_budgets=[]": "must have at least 1 item",
    "engine.colocated_budgets=512": "engine.colocated_budgets = 512: must be a list",
    "engine=5": "engine = 5: must be a mapping, not a number",
    "engine=[1]": "engine = [1]: must be a mapping, not a list",
    "slo.ttft_ms=.nan": "slo.ttft_ms = nan: must be a finite number",
    "slo.ttft_ms=.inf": "must be a finite number",
    "slo.ttft_ms=fast": "slo.ttft_ms = 'fast': must be a number",
    "model.weight_dtype=bf17": "'fp8', 'int8', 'int8_wo', 'int4', 'int4_g32', 'mxfp4' or 'nvfp4'",
    "model.name=": "model.name = null: must be text",
    "model.name=7": "model.name = 7: must be text",
    "model.name=''": "must have at least 1 character",
    "pd_separation.pd_ratio=[1, 0]": "pd_separation.pd_ratio[1] = 0: must be greater than or equal to 1",
    "pd_separation.pd_ratio=[1]": "pd_separation.pd_ratio = [1]: must have 2 items",
    "pd_separation.pd_ratio=[1, 2, 3]": "must have at most 2 items",
    "pd_separation.pd_ratio=[1, 2.5]": "pd_ratio[1] = 2.5: must be an integer",
    "pd_separation.transfer.strategy=pul": "must be 'push', 'pull' or 'pull_on_demand'",
    "pd_separation.first_token=both": "must be 'decode' or 'prefill'",
    "pd_experiments.pd_ratios=[[1, x]]": "pd_experiments.pd_ratios[0][1] = 'x': must be an integer",
    "hardware.hbm.read_bw_gbps=-1": "hardware.hbm.read_gb_per_s = -1: must be greater than 0",
    "cluster.network.tail_jitter_prob=2": "must be less than or equal to 1",
    "load.of=both": "load.of = 'both': must be 'pd' or 'unified'",
    "seed=-1": "seed = -1: must be greater than or equal to 0",
    "steptime.coefficients={w0_s: 1}": "--set: steptime.coefficients.w1_s_per_token is missing (and 12 more)",
    "steptime.coefficients={w0: 1}": "unknown key 'steptime.coefficients.w0'; did you mean 'w0_s'?",
    "steptime.method=fitted": "needs steptime.coefficients: give --calibration-profile",
    "engine.max_num_seqs=9000": "--set: engine.max_num_seqs = 9000 exceeds engine.max_num_batched_tokens = 8192",
    "engine={scheduler: sglang, block_size: 512, max_num_batched_tokens: 256, max_num_seqs: 8}": (
        "engine.max_num_batched_tokens = 256 is below the 512 tokens of a page: SGLang cuts prompts"
    ),
    "engine.tensor_parallel_size=3": "engine.tensor_parallel_size = 3 does not divide the 64 GPUs of a rack",
    "cluster.network.gpus_per_host=6": "gpus_per_host = 6 and engine.tensor_parallel_size = 4 do not divide",
    "pd_trace.prompt_tokens_min=5": "prompt_tokens_min is given without pd_trace.prompt_tokens_max",
    "trace.prompt_tokens_min=9999": "trace.prompt_tokens_min = 9999 exceeds trace.prompt_tokens_max = 2048",
    "agent_trace.turns_max=3": "--set: agent_trace.turns_max = 3 is below agent_trace.turns_min = 15",
    "agent_trace.tool_result_max=3": "tool_result_max_tokens = 3 is below agent_trace.tool_result_min_tokens = 128",
    "experiments.warmup_requests=5000": "warmup_requests = 5000 leaves nothing of experiments.num_requests = 5000",
    "engine.block_size": "--set: 'engine.block_size' is not of the form section.key=value",
    "=16": "'=16' is not of the form",
    "engine..block_size=16": "is not of the form",
    "engine.block_size=[1": "--set 'engine.block_size=[1', line 1: invalid YAML",
    "engine.block_size={a: 1, a: 2}": "duplicate key 'a'",
    "engine.block_size=!!python/name:os.system": "could not determine a constructor",
}


@pytest.mark.parametrize(("assignment", "fragment"), SETS.items())
def test_set(assignment, fragment):
    message = refused(sets=[assignment])
    assert fragment in message
    assert message.startswith("--set")


FILES = {
    "engine:\n  seed: 1\n  seed: 2\n": "line 3: invalid YAML: duplicate key 'seed', first given on line 2",
    "engine: {}\nengine: {}\n": ", line 2: invalid YAML: duplicate key 'engine'",
    "engine:\n\tblock_size: 1\n": ", line 2: invalid YAML: found character '\\t'",
    "engine: [1\n": "invalid YAML",
    "engine: 'x\n": "invalid YAML",
    "- engine\n": ": holds a list; a mapping of sections is wanted",
    "engine\n": ": holds text; a mapping",
    "5\n": ": holds a number; a mapping",
    "engine: &e {x: *e}\n": "line 1: invalid YAML: found unconstructable recursive node",
    "engine: *nowhere\n": "line 1: invalid YAML: found undefined alias",
    "a: 1\n---\nb: 2\n": "invalid YAML: but found another document",
    "? [1, 2]\n: 3\n": "line 1: invalid YAML: found unhashable key",
    "seed: 1\nname: a\0b\n": ", line 2: invalid YAML",
    "1: 2\n": ": unknown key '1'",
    "name: x\n": ": unknown key 'name'",
    "engine: {block_size: 0, max_num_seqs: 0}\n": "block_size = 0: must be greater than or equal to 1 (and 1 more)",
    "presets: 3\n": ": presets holds a number",
    "presets: {smoke: 3}\n": "preset 'smoke' holds a number",
    "presets: {smoke: {cluster: {racks: 3}}}\n": "preset 'smoke': unknown key 'cluster.racks'",
    "presets: {smoke: {engine: {block_size: 3}}}\n": "preset 'smoke': 'engine.block_size' is no scale",
    "seed: !!int x\n": "invalid YAML",
    f"seed: {'9' * 5000}\n": "invalid YAML",
    f"seed: {'[' * 3000}\n": "invalid YAML: nested too deeply",
    "cache: {block_size_bytes: 100}\nmodel: {kv_bytes_per_token: 10}\n": (
        "cache.block_size_bytes = 100 contradicts 16 tokens a block x model.kv_bytes_per_token = 10: that makes 160"
    ),
}


@pytest.mark.parametrize(("text", "fragment"), FILES.items(), ids=range(len(FILES)))
def test_config_file(tmp_path, text, fragment):
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    message = refused(config=path)
    assert fragment in message
    assert message.startswith(str(path))


def test_config_paths(tmp_path):
    assert refused(config=tmp_path / "no.yaml").endswith("no.yaml: no such file")
    assert refused(config=tmp_path).endswith("is a folder; a YAML file is wanted")
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"seed: \xff\xfe\n")
    assert "is not UTF-8 text (byte 6" in refused(config=binary)
    assert "cannot be read" in refused(config=binary / "below")
    assert "two\\nlines" in refused(config=tmp_path / "two\nlines")


OVERLAYS = {
    "engine: {block_size: 16}\n": "'engine' is no section of a profile",
    "hardwares: {}\n": "'hardwares' is no section of a profile; did you mean 'hardware'?",
    "nmae: x\n": "'nmae' is no section of a profile; did you mean 'name'?",
    "overrides: {engine: {block_size: 16}}\n": "unknown key 'engine'",
    "overrides: {hardware: {hbmm: 1}}\n": "unknown key 'hardware.hbmm'; did you mean 'hbm'?",
    "overrides: 3\n": "overrides holds a number",
    "overrides: {}\nhardware: {}\n": "'hardware' stands beside 'overrides'",
    "name: [x]\n": "name = ['x']: must be text, not a list",
    "hardware: {hbm: {capacity_gb: 5, kv_capacity_gb: 5}}\n": "gives both 'capacity_gb' and 'kv_capacity_gb'",
    "steptime: {method: guess}\n": "steptime.method = 'guess': must be 'auto', 'roofline', 'fitted' or 'tables'",
}


@pytest.mark.parametrize(("text", "fragment"), OVERLAYS.items(), ids=range(len(OVERLAYS)))
def test_overlay(tmp_path, text, fragment):
    path = tmp_path / "profile.yaml"
    path.write_text(text, encoding="utf-8")
    message = refused(overlay=path)
    assert fragment in message
    assert message.startswith(str(path))


@pytest.mark.parametrize(
    ("name", "fragment"),
    [
        ("h100_70b_referense", "did you mean 'h100_70b_reference'?"),
        ("zzz", "unknown calibration profile 'zzz'; 'kvsim profiles' lists those that come with kvsim"),
        ("nowhere/zzz", "no such file"),
        ("zzz.yaml", "zzz.yaml: no such file"),
    ],
)
def test_profile_names(name, fragment):
    assert fragment in refused(overlay=Path(name))


def test_preset_names():
    assert refused(preset="smok") == "--preset: unknown preset 'smok'; did you mean 'smoke'?"
    assert "known: dev, prod-eval, smoke" in refused(preset="xyz")


def test_the_source_that_is_at_fault_is_named(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("engine: {max_num_seqs: 9000}", encoding="utf-8")
    assert refused(config=path).startswith(f"{path}: engine.max_num_seqs = 9000 exceeds")
    assert refused(config=path, sets=["engine.max_num_batched_tokens=8999"]).startswith("--set: ")


@settings(deadline=None, max_examples=50)
@given(st.text(max_size=30))
@example("a\nb=[")
def test_any_set_either_loads_or_is_refused_in_one_line(text):
    for assignment in (text, f"engine.block_size={text}", f"model.name={text}", f"engine.{text}=1"):
        try:
            load_config(sets=[assignment])
        except KvsimError as error:
            assert len(str(error).splitlines()) == 1
