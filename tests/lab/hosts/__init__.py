"""The lab of four real hosts: `Lab` does, `LabError` says what could not be done, `layout` knows the names."""

from . import layout
from .lab import Lab
from .shell import LabError, wait_for

__all__ = ["Lab", "LabError", "layout", "wait_for"]
