"""The studies on the page: what each asks, its sentence, its table, its picture."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import TYPE_CHECKING

from kvsim.page.markup import Html, element, together
from kvsim.page.tables import of_terminal
from kvsim.study.answer import StudyAnswer
from kvsim.study.catalogue import studies
from kvsim.study.words import preamble

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DPI = 100


def studied(found: Mapping[str, StudyAnswer]) -> Html:
    """All of them, after how to read them."""
    known = studies()
    parts = [element("p", preamble(found), class_="said")]
    for key, answer in found.items():
        study = known[key]
        pictures = [_picture(study.figure(answer), study.sentence(answer))] if study.rows(answer) else []
        parts.append(
            element(
                "article",
                element("h3", study.asks),
                element("p", study.sentence(answer), class_="conclusion"),
                of_terminal(study.table(answer), study.name),
                *pictures,
            )
        )
    return together(*parts)


def _picture(figure: Figure, words: str) -> Html:
    """As a ``data:`` address, on paper of its own in the dark, too."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=_DPI, pil_kwargs={"optimize": True})
    width, height = (round(side * _DPI) for side in figure.get_size_inches())
    source = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    made = element("img", src=source, alt=words, width=width, height=height, class_="picture", loading="lazy")
    return Html(made.replace("</img>", ""))
