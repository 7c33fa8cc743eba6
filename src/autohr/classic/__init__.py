"""Classic methods: functions of the mean skin colour rgb (T, 3) and fs that return a pulse wave bvp (T,).

Four take more: ``li2014`` the background's colour as a third argument; ``samc``, ``ssr`` and ``mvdr`` the colours of R
parts of the face, (R, T, 3), in place of their mean; ``mvdr`` also the share of skin in each part, and reference waves
that hold no pulse.
"""

from collections.abc import Callable

from autohr.classic.colour import chrom, green, pos
from autohr.classic.ica import ica
from autohr.classic.li2014 import li2014
from autohr.classic.mvdr import mvdr
from autohr.classic.prism import prism
from autohr.classic.projection import lgi, omit, pbv
from autohr.classic.ssr import ssr
from autohr.classic.tulyakov2016 import samc
from autohr.types import Float

CLASSIC: dict[str, Callable[[Float, float], Float]] = {
    "green": green,
    "ica": ica,
    "chrom": chrom,
    "pos": pos,
    "li2014": li2014,
    "samc": samc,
    "lgi": lgi,
    "omit": omit,
    "pbv": pbv,
    "ssr": ssr,
    "mvdr": mvdr,
    "prism": prism,
}
"""Name -> function. A new formula is one function and one line here."""
