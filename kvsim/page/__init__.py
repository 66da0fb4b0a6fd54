"""A report as one HTML file that asks no host for anything: ``html_of`` makes it, ``write_html`` writes it."""

from kvsim.page.library import ensure_library
from kvsim.page.page import html_of, write_html

__all__ = ["ensure_library", "html_of", "write_html"]
