"""Networks, one visible table: name -> what it is and how it is built. Importing it imports torch."""

from collections.abc import Mapping

from autohr.lab.nets._spec import NetSpec, Preset, make_config, make_net
from autohr.lab.nets.autohr import PRESETS, AutoHR, AutoHRConfig
from autohr.lab.nets.deepphys import DeepPhys, DeepPhysConfig
from autohr.lab.nets.hrcnn import HRCNN, HRCNNConfig
from autohr.lab.nets.i3d import I3D, I3DConfig
from autohr.lab.nets.physnet import PhysNet, PhysNetConfig
from autohr.lab.nets.rhythmnet import RhythmNet, RhythmNetConfig
from autohr.lab.nets.rppgnet import RPPGNet, RPPGNetConfig
from autohr.lab.nets.synrhythm import SynRhythm, SynRhythmConfig
from autohr.plugins import Table

NETS: Mapping[str, NetSpec] = Table(
    "autohr.nets",
    {
        "autohr": NetSpec("autohr", "AutoHR", AutoHRConfig, AutoHR, "wave", PRESETS),
        "physnet": NetSpec("physnet", "PhysNet", PhysNetConfig, PhysNet, "wave"),
        "deepphys": NetSpec("deepphys", "DeepPhys", DeepPhysConfig, DeepPhys, "wave"),
        "rppgnet": NetSpec("rppgnet", "rPPGNet", RPPGNetConfig, RPPGNet, "wave"),
        "i3d": NetSpec("i3d", "I3D", I3DConfig, I3D, "rate"),
        "hrcnn": NetSpec("hrcnn", "HR-CNN", HRCNNConfig, HRCNN, "rate"),
        "rhythmnet": NetSpec("rhythmnet", "RhythmNet", RhythmNetConfig, RhythmNet, "rate"),
        "synrhythm": NetSpec("synrhythm", "SynRhythm", SynRhythmConfig, SynRhythm, "rate"),
    },
)
"""Those of this package, and those that other packages add by an entry point (``autohr.plugins``)."""

__all__ = ["NETS", "NetSpec", "Preset", "make_config", "make_net"]
