"""Networks, one visible table: name -> what it is and how it is built. Importing it imports torch."""

from collections.abc import Mapping

from autohr.lab.nets import autohr, deepphys, hrcnn, i3d, physnet, rhythmnet, rppgnet, synrhythm
from autohr.lab.nets._spec import NetSpec, Preset, make_config, make_net
from autohr.lab.nets.autohr import AutoHR, AutoHRConfig
from autohr.lab.nets.deepphys import DeepPhys, DeepPhysConfig
from autohr.lab.nets.hrcnn import HRCNN, HRCNNConfig
from autohr.lab.nets.i3d import I3D, I3DConfig, I3DWave
from autohr.lab.nets.physnet import PhysNet, PhysNetConfig
from autohr.lab.nets.rhythmnet import RhythmNet, RhythmNetConfig
from autohr.lab.nets.rppgnet import RPPGNet, RPPGNetConfig
from autohr.lab.nets.synrhythm import SynRhythm, SynRhythmConfig
from autohr.plugins import Table

NETS: Mapping[str, NetSpec] = Table(
    "autohr.nets",
    {
        "autohr": NetSpec("autohr", "AutoHR", AutoHRConfig, AutoHR, "wave", autohr.PRESETS),
        "physnet": NetSpec("physnet", "PhysNet", PhysNetConfig, PhysNet, "wave", physnet.PRESETS),
        "deepphys": NetSpec("deepphys", "DeepPhys", DeepPhysConfig, DeepPhys, "wave", deepphys.PRESETS),
        "rppgnet": NetSpec("rppgnet", "rPPGNet", RPPGNetConfig, RPPGNet, "wave", rppgnet.PRESETS),
        "i3d": NetSpec("i3d", "I3D", I3DConfig, I3D, "rate", i3d.PRESETS),
        "i3d_wave": NetSpec("i3d_wave", "I3D (wave)", I3DConfig, I3DWave, "wave", i3d.PRESETS),
        "hrcnn": NetSpec("hrcnn", "HR-CNN", HRCNNConfig, HRCNN, "rate", hrcnn.PRESETS),
        "rhythmnet": NetSpec("rhythmnet", "RhythmNet", RhythmNetConfig, RhythmNet, "rate", rhythmnet.PRESETS),
        "synrhythm": NetSpec("synrhythm", "SynRhythm", SynRhythmConfig, SynRhythm, "rate", synrhythm.PRESETS),
    },
)
"""Those of this package, and those that other packages add by an entry point (``autohr.plugins``)."""

__all__ = ["NETS", "NetSpec", "Preset", "make_config", "make_net"]
