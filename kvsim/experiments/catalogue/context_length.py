"""What long prompts do to unified serving and to PD: equal requests of several context lengths."""

from __future__ import annotations

from kvsim.experiments.standalone import standing_alone
from kvsim.plan.mode import PD
from kvsim.study.questions.context_lengths import STUDY as LENGTHS

STUDY = standing_alone(LENGTHS, __name__, PD, lambda answer: answer.rows)
