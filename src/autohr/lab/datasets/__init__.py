"""Recordings in, training clips out. ``DATASETS`` is the visible table of readers, each one file of this folder."""

from collections.abc import Mapping

from autohr.lab.datasets import (
    cohface,
    ecg_fitness,
    folder,
    ibvp,
    lgi_ppgi,
    mahnob_hci,
    mcd_rppg,
    mmpd,
    mmse_hr,
    pure,
    scamps,
    synthetic,
    ubfc_phys,
    ubfc_rppg,
    vipl_hr,
)
from autohr.lab.datasets.recording import DatasetSpec
from autohr.plugins import Table

DATASETS: Mapping[str, DatasetSpec] = Table(
    "autohr.datasets",
    {
        spec.name: spec
        for spec in (
            folder.SPEC,
            synthetic.SPEC,
            vipl_hr.SPEC,
            mahnob_hci.SPEC,
            mmse_hr.SPEC,
            mmse_hr.BP4D_SPEC,
            mcd_rppg.SPEC,
            ubfc_rppg.SPEC_1,
            ubfc_rppg.SPEC_2,
            pure.SPEC,
            cohface.SPEC,
            ubfc_phys.SPEC,
            lgi_ppgi.SPEC,
            ecg_fitness.SPEC,
            mmpd.SPEC,
            scamps.SPEC,
            ibvp.SPEC,
        )
    },
)
"""Those of this package, and those that other packages add by an entry point (``autohr.plugins``)."""
