"""How long one engine step takes, and spans of steps."""

from kvsim.steptime.curves.affine import AffineStepTime
from kvsim.steptime.curves.base import ENDLESS, StepTime, span_s
from kvsim.steptime.curves.coefficients import Coefficients
from kvsim.steptime.roofline import Efficiencies, roofline

__all__ = ["ENDLESS", "AffineStepTime", "Coefficients", "Efficiencies", "StepTime", "roofline", "span_s"]
