"""How long one engine step takes, and spans of steps."""

from kvsim.steptime.affine import AffineStepTime, Coefficients, span_s
from kvsim.steptime.roofline import Efficiencies, roofline

__all__ = ["AffineStepTime", "Coefficients", "Efficiencies", "roofline", "span_s"]
