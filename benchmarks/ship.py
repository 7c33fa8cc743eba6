"""Put trained weights among the shipped ones, with what was measured of them in their header.

    python benchmarks/ship.py RUN/checkpoints/best.safetensors [--as NAME]     take them over, halved in size
    python benchmarks/ship.py --restate                                        only write the figures anew

Both files store the parameters as float16, but for AutoHR, the default. The figures are those of
docs/results/methods.json (``benchmarks/both_worlds.py``), AutoHR's those of transfer.json; weights that are not in it
yet keep what their training measured.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

from autohr.lab.nets._checkpoint import load_net, save_weights
from autohr.lab.nets._export import export_beside
from autohr.methods import DEFAULT_METHOD, METHODS, WEIGHTS_DIR, shipped_weights
from results import figures, read_results

WRITTEN_BY_SAVE = ("schema", "net", "config", "genotype")


def measured(net: str) -> dict[str, Any] | None:
    """Return the figures of a net for its header; None if the table of methods does not have it."""
    if net == DEFAULT_METHOD:
        return measured_default()
    found = figures(read_results()).get("methods", {}).get("synthetic", {}).get(METHODS[net].title)
    if found is None:
        return None
    return {
        "mae_bpm": round(found["MAE (bpm)"], 3),
        "within_5_bpm": round(found["within 5 bpm"], 4),
        "on": f"{found['recordings']} synthetic recordings of people in no training, as `autohr measure` answers them; "
        f"the network alone: {found['alone: within 5 bpm']:.0%} within 5 bpm, r {found['alone: r']:.2f}",
    }


def measured_default() -> dict[str, Any]:
    """Return the figures of AutoHR, and of the best published formula on the same recordings."""
    published = figures(read_results())
    ours, best = (published["transfer"]["methods"][title] for title in ("AutoHR", "POS"))
    alone = published["standings"]["methods"]["autohr-shipped"]["MAE"]
    return {
        "mae_bpm": ours["MAE (bpm)"],
        "within_3_bpm": ours["within 3 bpm"],
        "pearson_r": ours["r"],
        "best_formula_mae_bpm": best["MAE (bpm)"],
        "best_formula_within_3_bpm": best["within 3 bpm"],
        "network_alone_mae_bpm": alone,
        "on": f"{ours['recordings']} synthetic recordings of {published['transfer']['people']} people in no training, "
        f"as `autohr measure` answers them; the network alone: {alone} bpm",
    }


def ship(weights: Path, name: str | None) -> Path:
    """Write NAME.safetensors and NAME.onnx of these weights into the package."""
    net, header = load_net(weights)
    target = WEIGHTS_DIR / f"{name or header['net']}.safetensors"
    kept = {key: value for key, value in header.items() if key not in WRITTEN_BY_SAVE}
    kept["measured_accuracy"] = measured(header["net"]) or header["measured_accuracy"]
    half = target.stem != DEFAULT_METHOD
    save_weights(target, net, name=header["net"], header=kept, dtype=torch.float16 if half else torch.float32)
    exported = export_beside(target, half=half)
    print(f"{target.name}: {target.stat().st_size / 1e6:.2f} MB, {exported.path.name}: {exported.n_bytes / 1e6:.2f} MB")
    return target


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, nargs="?")
    parser.add_argument("--as", dest="name", help="default: the name of the net")
    parser.add_argument("--restate", action="store_true")
    options = parser.parse_args()
    if options.restate == (options.weights is not None):
        parser.error("give a file of weights, or --restate.")
    if options.weights is not None:
        ship(options.weights, options.name)
        return
    for name, path in shipped_weights(".safetensors").items():
        ship(path, name)


if __name__ == "__main__":
    main()
