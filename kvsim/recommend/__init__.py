"""Which deployment to take: candidates, what arithmetic rules out, a race of simulations, and what to paste."""

from kvsim.recommend.answer import Recommendation
from kvsim.recommend.question import Question
from kvsim.recommend.recommending import recommend

__all__ = ["Question", "Recommendation", "recommend"]
