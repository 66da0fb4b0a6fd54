"""How long one engine step takes, and spans of steps."""

from kvsim.steptime.affine import AffineStepTime
from kvsim.steptime.base import ENDLESS, StepTime, span_s
from kvsim.steptime.coefficients import Coefficients
from kvsim.steptime.roofline import Efficiencies, roofline

__all__ = ["ENDLESS", "AffineStepTime", "Coefficients", "Efficiencies", "StepTime", "roofline", "span_s"]
