"""The order of the sources, how they merge, and what is told of them."""

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from kvsim.config import Config, dump, load_config
from kvsim.config.layer import all_keys
from kvsim.config.load import changed
from kvsim.config.schema import Coefficients
from kvsim.config.section import Item, Section
from kvsim.config.tree import merged
from kvsim.content import content_path
from kvsim.errors import ConfigError


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_are_exactly_config_yaml():
    given_yaml = yaml.safe_load(content_path("config.yaml").read_text(encoding="utf-8"))
    del given_yaml["presets"]
    assert dump(load_config().config) == given_yaml


def subclasses(section):
    """What config.yaml is made of; files of sweeps and designs, which other tests may have loaded, have defaults."""
    own = {section} if section.__module__.startswith("kvsim.config.") else set()
    return own.union(*map(subclasses, section.__subclasses__()))


@pytest.mark.parametrize("section", sorted(subclasses(Section), key=lambda section: section.__name__))
def test_schema_has_no_defaults(section):
    defaults = {name: field.default for name, field in section.model_fields.items() if not field.is_required()}
    # A profile may leave terms of the formula out: that they are 0 then is what leaving out means. What an item of a
    # list leaves out is null.
    leaves_out = section is Coefficients or issubclass(section, Item)
    assert {name: value for name, value in defaults.items() if not leaves_out or value} == {}


def test_each_source_wins_over_those_before_it(tmp_path):
    text = "cluster: {simulate_racks: 11, total_gpus: 1, eic: {nodes_per_rack: 1}}\nseed: 1"
    config = write(tmp_path, "c.yaml", text)
    overlay = write(tmp_path, "o.yaml", "cluster: {simulate_racks: 12, total_gpus: 2}")
    racks = [
        load_config(*sources).config.cluster.simulate_racks
        for sources in (
            (),
            (config,),
            (config, overlay),
            (config, overlay, "smoke"),
            (config, overlay, "smoke", ["cluster.simulate_racks=14"]),
        )
    ]
    assert racks == [160, 11, 12, 2, 14]
    everything = load_config(config, overlay, "smoke", ["cluster.simulate_racks=14"]).config
    assert (everything.seed, everything.cluster.total_gpus, everything.cluster.eic.nodes_per_rack) == (1, 2, 1)
    assert everything.cluster.eic.capacity_per_node_gb == 1000


def test_later_set_wins_and_mappings_merge():
    config = load_config(sets=["slo.ttft_ms=1", "slo={ttft_ms: 3, tpot_ms: 4}", "slo.tpot_ms=5"]).config
    assert (config.slo.ttft_ms, config.slo.tpot_ms) == (3, 5)


def test_lists_replace():
    assert load_config(sets=["engine.colocated_budgets=[4096]"]).config.engine.colocated_budgets == (4096,)
    ratios = load_config(sets=["pd_experiments.pd_ratios=[[2, 1]]"]).config.pd_experiments.pd_ratios
    assert ratios == ((2, 1),)


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "engine:\n", "\ufeffengine: {}\n"])
def test_a_file_that_says_nothing_changes_nothing(tmp_path, text):
    assert load_config(write(tmp_path, "c.yaml", text)).config == load_config().config


@pytest.mark.parametrize(
    ("text", "value"), [("1e3", 1000.0), ("1_000", 1000.0), ("+.5", 0.5), ("1.5E+2", 150.0), ("007", 7.0)]
)
def test_numbers_people_write(text, value):
    assert load_config(sets=[f"pd_trace.qps={text}"]).config.pd_trace.qps == value


def test_a_section_can_be_taken_back_to_null():
    config = load_config(overlay=Path("h100_70b_reference"), sets=["steptime={method: roofline, coefficients: null}"])
    assert config.config.steptime.coefficients is None


@pytest.mark.parametrize(
    ("preset", "gpus", "requests"), [("smoke", 16, 200), ("dev", 512, 55_000), ("prod-eval", 10240, None)]
)
def test_presets_change_scale_only(preset, gpus, requests):
    base, scaled = load_config().config, load_config(preset=preset).config
    assert scaled.cluster.simulate_racks * scaled.cluster.simulate_gpus_per_rack == gpus
    assert scaled.pd_experiments.num_requests == requests
    same = ("seed", "model", "engine", "hardware", "steptime", "cache", "pd_separation", "routing", "slo", "policies")
    assert all(getattr(base, section) == getattr(scaled, section) for section in same)


def test_a_file_may_change_a_preset_and_add_one(tmp_path):
    text = "presets: {smoke: {cluster: {simulate_racks: 3}}, tiny: {cluster: {simulate_racks: 1}}}"
    config = write(tmp_path, "c.yaml", text)
    smoke = load_config(config, preset="smoke").config
    assert (smoke.cluster.simulate_racks, smoke.pd_experiments.num_requests) == (3, 200)
    assert load_config(config, preset="tiny").config.cluster.simulate_racks == 1


def test_config_is_frozen():
    with pytest.raises(ValueError, match="frozen"):
        load_config().config.engine.block_size = 32


def test_dump_loads_back(tmp_path):
    config = load_config(overlay=Path("h100_70b_reference"), preset="dev").config
    path = write(tmp_path, "again.yaml", json.dumps(dump(config)))
    assert load_config(path).config == config


def test_a_profile_called_none_is_step_times_of_no_measurement():
    without = load_config(overlay=Path("none"))
    assert without == load_config(sets=["steptime.method=roofline"])
    assert load_config().config.steptime.method == "auto"
    # It stands below what anybody asks for.
    assert load_config(overlay=Path("none"), sets=["steptime.method=auto"]).config.steptime.method == "auto"


@pytest.mark.parametrize(
    ("key", "value", "method"),
    [
        ("steptime.compute_efficiency", "0.5", "roofline"),
        ("steptime.allreduce_latency_us", "9", "roofline"),
        ("pd_separation.compute.prefill_tflops", "400", "roofline"),
        ("pd_separation.compute.overhead_factor", "2", "auto"),
        ("hardware.peak_tflops", "400", "auto"),
    ],
)
def test_whoever_sets_what_one_method_looks_at_means_that_method(key: str, value: str, method: str):
    loaded = load_config(sets=[f"{key}={value}"])
    assert loaded.config.steptime.method == method
    expected = () if method == "auto" else (f"steptime.method = 'roofline' instead of 'auto': {key} is set",)
    assert loaded.provenance.notes == expected


def test_no_profile_no_provenance():
    provenance = load_config(preset="dev").provenance
    assert (provenance.name, provenance.path, provenance.preset) == (None, None, "dev")
    assert provenance.notes == () and provenance.warnings == ()


WHOLE = [key for key in all_keys(Config) if key.endswith("_tokens_mean")]


@settings(deadline=None, max_examples=30)
@given(st.sampled_from(WHOLE), st.floats(min_value=1e-300, max_value=1e300))
def test_set_round_trips_any_float(key, value):
    section, name = key.split(".")
    config = load_config(sets=[f"{key}={value!r}"]).config
    assert getattr(getattr(config, section), name) == value


@settings(deadline=None, max_examples=20)
@given(st.integers(min_value=1, max_value=2**70))
def test_set_round_trips_any_integer(value):
    assert load_config(sets=[f"model.max_model_len={value}"]).config.model.max_model_len == value


@settings(deadline=None, max_examples=20)
@given(st.lists(st.tuples(st.integers(1, 99), st.integers(1, 99)), min_size=1, max_size=6))
def test_set_round_trips_ratios(ratios):
    text = json.dumps(ratios)
    assert load_config(sets=[f"pd_experiments.pd_ratios={text}"]).config.pd_experiments.pd_ratios == tuple(ratios)


LEAVES = st.integers() | st.none() | st.lists(st.integers(), max_size=2)
NESTED = st.recursive(LEAVES, lambda inner: st.dictionaries(st.sampled_from("xy"), inner))
TREES = st.dictionaries(st.sampled_from("abc"), NESTED)


@given(TREES, TREES, TREES)
def test_merging_is_idempotent_and_leaves_its_operands(below, middle, above):
    before = json.dumps([below, above])
    once = merged(below, above)
    assert merged(once, above) == once
    assert merged(below, {}) == below and merged({}, above) == above
    assert json.dumps([below, above]) == before
    assert set(merged(merged(below, middle), above)) == set(below) | set(middle) | set(above)


def test_changed_by_dotted_keys():
    """Checked as what is loaded is, and blamed on who changes it."""
    config = load_config().config
    found = changed(config, {"cluster.eic.nodes_per_rack": 2, "routing.prefill": "round_robin"}, "here")
    assert (found.cluster.eic.nodes_per_rack, found.routing.prefill) == (2, "round_robin")
    assert found.cluster.eic.read_gb_per_s == config.cluster.eic.read_gb_per_s
    assert changed(config, {}, "here") == config
    for values, words in (
        ({"engine.block_size": 0}, r"^here: engine.block_size = 0: must be greater than or equal to 1$"),
        ({"engine.blok_size": 16}, r"^here: unknown key 'engine.blok_size'; did you mean 'block_size'"),
        ({"engine.max_num_batched_tokens": 100}, r"^here: engine.max_num_batched_tokens = 100 is below"),
        ({"cache.tiers": ["ssd", "dram"]}, r"^here: cache.tiers = \[ssd, dram\]: the nearest stands first"),
    ):
        with pytest.raises(ConfigError, match=words):
            changed(config, values, "here", "single")
    assert changed(config, {"cache.tiers": ["ssd", "dram"]}, "here", "pd").cache.tiers == ("ssd", "dram")
