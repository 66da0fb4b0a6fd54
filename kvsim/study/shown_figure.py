"""A figure that a notebook shows as a picture, whatever has been set up there."""

from __future__ import annotations

import io

from matplotlib.figure import Figure


class ShownFigure(Figure):
    """A matplotlib figure that draws itself where IPython asks for a PNG.

    Plain ones do so only once ``%matplotlib inline`` or ``pyplot`` has told IPython how; that goes before this.
    """

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.savefig(file, format="png")
        return file.getvalue()
