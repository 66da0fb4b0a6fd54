"""The configuration: schema, sources merged in order, and what follows from it.

from kvsim.config import load_config
config = load_config(preset="smoke", sets=["engine.tensor_parallel_size=8"]).config
"""

from kvsim.config.load import Given, LoadedConfig, Provenance, load_config
from kvsim.config.overlay import shipped_profiles
from kvsim.config.schema import Config
from kvsim.config.tree import dump

__all__ = ["Config", "Given", "LoadedConfig", "Provenance", "dump", "load_config", "shipped_profiles"]
