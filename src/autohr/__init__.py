"""autohr: heart rate from the video of a face.

    import autohr
    answer = autohr.measure("face.mp4")
    print(answer.face.hr_bpm, answer.face.reliable)

Everything is imported when it is first used, so that ``autohr --help`` need not wait for the numerical libraries.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autohr.measure import measure as measure
    from autohr.methods import load_method as load_method
    from autohr.types import Measurement as Measurement

__version__ = "0.2.0"
__all__ = ["Measurement", "__version__", "load_method", "measure"]


class _Face(ModuleType):
    """The package as its users see it. A class, because ``measure`` is the name of a room and of the function in it:
    importing the room would otherwise put the module in the function's place."""

    @property
    def measure(self) -> Any:
        from autohr.measure import measure

        return measure

    @measure.setter
    def measure(self, value: object) -> None:
        """The import system offers the module here; the function stays."""

    @property
    def load_method(self) -> Any:
        from autohr.methods import load_method

        return load_method

    @property
    def Measurement(self) -> Any:
        from autohr.types import Measurement

        return Measurement


sys.modules[__name__].__class__ = _Face
