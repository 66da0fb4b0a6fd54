"""Models, GPUs and their arithmetic: bytes and FLOPs, nothing measured."""

from kvsim.spec.catalogue import MODELS, find_model, known_model, model_file
from kvsim.spec.gpu import GPUS, GpuSpec, find_gpu, known_gpu
from kvsim.spec.instance import InstanceSpec
from kvsim.spec.model import BYTES_PER_VALUE, ModelSpec
from kvsim.spec.weight_types import WEIGHT_BYTES, computed_in, is_quantised

__all__ = [
    "BYTES_PER_VALUE",
    "GPUS",
    "MODELS",
    "WEIGHT_BYTES",
    "GpuSpec",
    "InstanceSpec",
    "ModelSpec",
    "computed_in",
    "find_gpu",
    "find_model",
    "is_quantised",
    "known_gpu",
    "known_model",
    "model_file",
]
