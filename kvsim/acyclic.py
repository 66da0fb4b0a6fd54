"""Classes whose objects the collector need not know, where they are compiled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from mypy_extensions import mypyc_attr as mypyc_attr
else:
    _Class = TypeVar("_Class")

    def mypyc_attr(**_attributes: Any):
        """What mypyc reads of a class; nothing, where it runs as Python.

        ``acyclic=True``: no object of the class is ever part of a cycle of references that is to be found and freed.
        Such an object has no place in the collector's list, whose neighbours are touched whenever one goes.
        """

        def unchanged(cls: type[_Class]) -> type[_Class]:
            return cls

        return unchanged
