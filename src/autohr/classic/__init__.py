"""Classic methods, one visible table: name -> function of mean skin colour rgb (T, 3) and fs, giving bvp (T,)."""

from collections.abc import Callable

from autohr.classic.colour import chrom, green, pos
from autohr.classic.ica import ica
from autohr.types import Float

CLASSIC: dict[str, Callable[[Float, float], Float]] = {
    "green": green,
    "ica": ica,
    "chrom": chrom,
    "pos": pos,
}
