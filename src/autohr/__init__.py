"""Heart rate from the video of a face.

Examples
--------
>>> import autohr
>>> answer = autohr.measure("face.mp4")  # doctest: +SKIP
>>> answer.face.hr_bpm, answer.face.reliable  # doctest: +SKIP
(72.1, True)

``Meter`` takes the frames of a camera one at a time, ``load_method`` chooses a method, and ``Measurement`` is what
``measure`` returns. All are imported when they are first used, so that ``autohr --help`` does not wait for numerical
libraries.
"""

from __future__ import annotations

import importlib
import os
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autohr.measure import measure as measure
    from autohr.meter import Meter as Meter
    from autohr.methods import load_method as load_method
    from autohr.types import Measurement as Measurement

__version__ = "0.2.0"
__all__ = ["Measurement", "Meter", "__version__", "load_method", "measure"]


# onnxruntime's Linux wheels (1.32) hold telemetry that uploads usage data, with a thread for which a forked child waits
# for ever at its end. Nothing that is measured here leaves the machine. Set before anything can import onnxruntime.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


class _Package(ModuleType):
    """The package. A class, because ``measure`` is the name of a module and of the function in it.

    The import system would otherwise put the module in the function's place.
    """

    def __getattr__(self, name: str) -> Any:
        rooms = {"Measurement": "types", "Meter": "meter", "load_method": "methods"}
        if name not in rooms:
            raise AttributeError(f"module 'autohr' has no attribute {name!r}")
        return getattr(importlib.import_module(f"autohr.{rooms[name]}"), name)

    @property
    def measure(self) -> Any:
        """The function ``autohr.measure.measure``."""
        from autohr.measure import measure

        return measure

    @measure.setter
    def measure(self, value: object) -> None:
        """Keep the function when the import system offers the module."""


sys.modules[__name__].__class__ = _Package
