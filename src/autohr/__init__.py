"""Heart rate from the video of a face.

Examples
--------
>>> import autohr
>>> answer = autohr.measure("face.mp4")  # doctest: +SKIP
>>> answer.face.hr_bpm, answer.face.reliable  # doctest: +SKIP
(72.1, True)

``measure`` takes a file, a camera, or frames in memory, and returns a ``Measurement``. ``Meter`` takes frames one at a
time as they come, ``LiveSession`` does so in a thread of its own, ``load_method`` chooses a method, and
``AutoHRError`` is the base of all errors that a caller's code did not make. All are imported when they are first used,
so that ``autohr --help`` does not wait for numerical libraries.
"""

from __future__ import annotations

import importlib
import os
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autohr.errors import AutoHRError as AutoHRError
    from autohr.live.session import LiveSession as LiveSession
    from autohr.measure import measure as measure
    from autohr.meter import Meter as Meter
    from autohr.methods import load_method as load_method
    from autohr.types import Measurement as Measurement

__version__ = "0.2.0"
__all__ = ["AutoHRError", "LiveSession", "Measurement", "Meter", "__version__", "load_method", "measure"]

_MODULES = {
    "AutoHRError": "errors",
    "LiveSession": "live.session",
    "Measurement": "types",
    "Meter": "meter",
    "load_method": "methods",
}
"""Names of this package and the modules that they are imported from when first used."""

# onnxruntime's Linux wheels (1.32) hold telemetry that uploads usage data, with a thread for which a forked child waits
# for ever at its end. Nothing that is measured here leaves the machine. Set before anything can import onnxruntime.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


class _Package(ModuleType):
    """The package. A class, because ``measure`` is the name of a module and of the function in it.

    The import system would otherwise put the module in the function's place.
    """

    def __getattr__(self, name: str) -> Any:
        if name not in _MODULES:
            raise AttributeError(f"module 'autohr' has no attribute {name!r}")
        return getattr(importlib.import_module(f"autohr.{_MODULES[name]}"), name)

    def __dir__(self) -> list[str]:
        return sorted({*self.__dict__, *__all__})

    @property
    def measure(self) -> Any:
        """The function ``autohr.measure.measure``."""
        from autohr.measure import measure

        return measure

    @measure.setter
    def measure(self, value: object) -> None:
        """Keep the function when the import system offers the module."""


sys.modules[__name__].__class__ = _Package
