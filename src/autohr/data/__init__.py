"""Recordings in, training clips out. ``DATASETS`` is the visible table of readers, each one file of this folder."""

from autohr.data import synthetic
from autohr.data.recording import DatasetSpec

DATASETS: dict[str, DatasetSpec] = {spec.name: spec for spec in (synthetic.SPEC,)}
