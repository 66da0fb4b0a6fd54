"""What Modal calls in its containers, by name: thin, so that all there is to test is elsewhere."""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Protocol

from kvsim.errors import ConfigError

if TYPE_CHECKING:
    from kvsim.measure.cloud.plan import CloudPlan

STARTED = "started"
"""The mark of a run that has begun."""
VOLUME = "kvsim-weights"
"""The account's own; weights stay in it for the next run."""
WEIGHTS = "/weights"
"""Where the volume is in every container."""
UNWANTED = ("*.pth", "*.gguf", "*.onnx", "*.msgpack", "*.h5", "*.ot", "original/*", "onnx/*", "openvino/*")
"""Files of a repository that hold the same weights another way."""


class Marks(Protocol):
    """Something shared by the containers of a run, as ``modal.Dict``."""

    def put(self, key: str, value: Any, *, skip_if_exists: bool = False) -> bool:
        """Whether it was put."""


def prepare(model: str, revision: str | None) -> str:
    """Get a model's files into the volume; returns the commit that they are of."""
    import modal
    from huggingface_hub import snapshot_download

    found = Path(snapshot_download(model, revision=revision, ignore_patterns=list(UNWANTED)))
    modal.Volume.from_name(VOLUME).commit()
    return found.name


def run(plan: CloudPlan, marks: Marks) -> dict[str, bytes]:
    """Carry the plan out; the files that are left, by path."""
    from kvsim.measure.cloud.body import Place, carry_out
    from kvsim.measure.cloud.plan import PORT
    from kvsim.measure.cloud.results import left_in

    begin(marks)
    with TemporaryDirectory() as folder:
        place = Place(
            folder=Path(folder),
            command=lambda caching: plan.command(prefix_caching=caching),
            url=f"http://127.0.0.1:{PORT}",
            until_s=time.monotonic() + plan.limits.run_s,
        )
        carry_out(plan, place)
        return left_in(place.folder)


def begin(marks: Marks) -> None:
    """Mark the run as begun. Raises ``ConfigError`` in a container that was brought up for another that was taken away:
    doing the work again would cost twice what was said."""
    if not marks.put(STARTED, time.time(), skip_if_exists=True):
        raise ConfigError("the machine was taken away during the run; it is not done again (start it anew)")
