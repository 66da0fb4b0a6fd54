"""Models, GPUs and their arithmetic: bytes and FLOPs, nothing measured."""

from kvsim.spec.catalogue import MODELS, find_model, known_model, model_file
from kvsim.spec.gpu import GPUS, GpuSpec, find_gpu, known_gpu
from kvsim.spec.instance import InstanceSpec
from kvsim.spec.model import BYTES_PER_VALUE, WEIGHT_BYTES, ModelSpec

__all__ = [
    "BYTES_PER_VALUE",
    "GPUS",
    "MODELS",
    "WEIGHT_BYTES",
    "GpuSpec",
    "InstanceSpec",
    "ModelSpec",
    "find_gpu",
    "find_model",
    "known_gpu",
    "known_model",
    "model_file",
]
