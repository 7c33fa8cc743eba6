"""VIPL-HR rehearsed at its exact size in names and label files: time to list it, to check a full cache, and to merge.

    python benchmarks/vipl_tree.py
    python benchmarks/vipl_tree.py --tree VIPL-HR --duration-s 10.5 --fps 12
    python benchmarks/vipl_tree.py --estimate

The tree has every folder of the dataset, near-infrared ones included, labels in each and one film for all. Two
recordings, one with a clock and one of the phone, are prepared; the other entries of the cache are theirs under another
name, so that what is timed is all but the decoding. With --tree it is only written, for the commands of the docs.
--estimate prepares one recording of 30 s, 27 frames per second and 672x504 pixels, makes one step of the paper's
training and one test, and multiplies.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from scipy.io import savemat

from autohr.files import write_json
from autohr.frontend import CropConfig
from autohr.lab.datasets import vipl_hr
from autohr.lab.datasets.cache import ENTRY_FILE, cache_folder, open_cached, prepare
from autohr.lab.datasets.manifest import merge_dataset
from autohr.lab.datasets.recording import file_stem
from autohr.lab.nets import make_net
from autohr.lab.recipes.files import find_recipe
from autohr.lab.runs import create_run
from autohr.lab.synth.video import SceneConfig, render, truth
from autohr.lab.train.fit import fit
from autohr.lab.train.recipe import clips_of, read_recipe
from autohr.video.encode import write_video

CROP = CropConfig(size_px=32)
SECOND_TAKES = [f"p{16 + n}/v1-2/source{1 + n % 3}" for n in range(20)]
N_NEAR_INFRARED = 3130 - 2378
"""Videos of source4: the dataset has 3,130 in all and 2,378 in visible light."""
T = TypeVar("T")


def timed(what: str, work: Callable[[], T]) -> T:
    before, begun_s = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    result = work()
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"{what}: {time.monotonic() - begun_s:.1f} s, {cpu_s:.1f} s of the processor", flush=True)
    return result


def places() -> list[str]:
    """Return every folder of the dataset, as p1/v1/source1."""
    gaps = vipl_hr._known_gaps()
    found = [
        f"p{subject}/v{scenario}/source{source}"
        for subject in range(1, vipl_hr.N_SUBJECTS + 1)
        for scenario in vipl_hr.SCENARIOS
        for source in ((2,) if scenario >= 8 else (1, 2, 3))
        if (subject, scenario, 1, source) not in gaps
    ]
    near_infrared = [f"p{subject}/v{scenario}/source4" for subject in range(1, 108) for scenario in range(1, 8)]
    near_infrared += [f"p{subject}/v1-2/source4" for subject in range(1, 108)]
    return [*found, *SECOND_TAKES, *near_infrared[:N_NEAR_INFRARED]]


def make_tree(root: Path, duration_s: float = 30.0, fps: float = 30.0, only: str = "", scale: int = 1) -> None:
    """Write the tree, or only one folder of it, with a film of 96x72 pixels times ``scale``."""
    width, height, face_px = 96 * scale, 72 * scale, 54 * scale
    scene = SceneConfig(seed=1, duration_s=duration_s, fps=fps, width=width, height=height, face_px=face_px)
    frames, times_s = zip(*render(scene), strict=True)
    film = root / "film.avi"
    write_video(film, frames, fps=25.0, codec="mjpeg", crf=12)
    known = truth(scene)
    wave = np.interp(np.arange(round(60 * duration_s)) / 60, known.t_s, known.bvp)
    n_seconds = math.ceil(duration_s) + 1
    labels = {
        "wave.csv": "Wave\n" + "".join(f"{round(60 + 20 * value)}\n" for value in wave),
        "gt_HR.csv": "HR\n"
        + "".join(f"{round(one)}\n" for one in np.interp(range(n_seconds), known.t_s, known.hr_bpm)),
        "gt_SpO2.csv": "SpO2\n" + n_seconds * "97\n",
        "time.txt": "".join(f"{round(1000 * t_s)}\n" for t_s in times_s),
    }
    for place in [only] if only else places():
        folder = root / "data" / place
        folder.mkdir(parents=True)
        os.link(film, folder / "video.avi")
        for name, text in labels.items():
            if name != "time.txt" or not place.endswith("source2"):
                (folder / name).write_text(text)
    (root / "fold").mkdir()
    for fold in range(1, 6):
        subjects = np.array([[n for n in range(1, 108) if (n - 1) % 5 == fold - 1]], dtype=np.uint8)
        savemat(root / "fold" / f"fold{fold}.mat", {f"fold{fold}": subjects})
    gaps = (f"p{s}/v{v}/source{c}\n" for s, v, _, c in sorted(vipl_hr._known_gaps()))
    (root / "Missing_data.txt").write_text("".join(gaps))
    (root / "Additional_data.txt").write_text("".join(f"{one}\n" for one in SECOND_TAKES))


def fill_cache(root: Path, out: Path) -> None:
    """Prepare one recording with a clock and one of the phone, and give all others their entries and arrays."""
    recordings = vipl_hr.list_recordings(root).recordings
    models = {phone: next(one for one in recordings if ("source2" in one.session) == phone) for phone in (False, True)}
    entries = {entry.id: entry for entry in prepare(list(models.values()), out, CROP, workers=1).entries}
    home = cache_folder(out, CROP)
    for one in recordings:
        model = models["source2" in one.session]
        if one.id == model.id:
            continue
        folder, source = home / file_stem(one.id), home / file_stem(model.id)
        folder.mkdir()
        for file in source.glob("*.np[yz]"):
            os.link(file, folder / file.name)
        record = json.loads((source / ENTRY_FILE).read_text())
        entry = dataclasses.replace(entries[model.id], id=one.id, subject=one.subject, session=one.session)
        write_json(folder / ENTRY_FILE, {**record, "entry": dataclasses.asdict(entry)})


def cpu_of(work: Callable[[], object]) -> float:
    """Return the processor's seconds of a call in this process."""
    before = time.process_time()
    work()
    return time.process_time() - before


def estimate() -> None:
    """Print time and disk of the real thing on one core, from one recording, one step and one test."""
    recipe = read_recipe(find_recipe("autohr_paper"), ["fit.steps=1", "fit.batch_size=1", "fit.workers=0"])
    n, fps, folds = vipl_hr.SPEC.n_recordings or 0, 27.0, vipl_hr.N_FOLDS
    with tempfile.TemporaryDirectory(prefix="autohr-vipl-") as name:
        root, out = Path(name) / "VIPL-HR", Path(name) / "cache"
        root.mkdir()
        make_tree(root, fps=fps, only="p1/v1/source1", scale=7)
        recordings = vipl_hr.list_recordings(root).recordings
        prepare_s = cpu_of(lambda: prepare(recordings, out, recipe.crop, workers=1))
        (opened,) = open_cached(out, recipe.crop)
        n_bytes = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
        clips, net = clips_of(recipe, [opened], recipe.augment), make_net(recipe.net, recipe.net_config)
        run = create_run(Path(name) / "run", {})
        step_s = cpu_of(lambda: fit(net, clips, None, recipe.fit, run, loss=recipe.loss))
        ten_s = torch.rand(1, 3, round(10 * fps), recipe.data.size_px, recipe.data.size_px)
        with torch.inference_mode():
            test_s = cpu_of(lambda: net.eval()(ten_s))
    epochs = find_epochs()
    n_clips = n * int(30 * fps / recipe.data.n_frames) * (folds - 1) // folds * epochs
    print(f"prepare: {prepare_s:.1f} s and {n_bytes / 1e6:.1f} MB a recording; {n} are {n * prepare_s / 3600:.1f} h")
    print(f"  and {n * n_bytes / 1e9:.0f} GB")
    print(f"train: {step_s:.1f} s a clip; {n_clips} clips in {epochs} epochs of {folds - 1} folds of {folds} are")
    print(f"  {n_clips * step_s / 86400:.0f} days, {folds} trainings {folds * n_clips * step_s / 86400:.0f} days")
    print(f"test: {test_s:.1f} s a clip of 10 s; {3 * n} are {3 * n * test_s / 3600:.1f} h")


def find_epochs() -> int:
    """Return the number of epochs of the paper's recipe."""
    return round(read_recipe(find_recipe("autohr_paper")).fit.epochs or 0)


def main() -> None:
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tree", type=Path, help="write the tree into this folder, which must not be there, and end")
    parser.add_argument("--duration-s", type=float, default=30.0, help="length of the film")
    parser.add_argument("--fps", type=float, default=30.0, help="frame rate of the film")
    parser.add_argument("--estimate", action="store_true", help="estimate time and disk of the real thing, and end")
    given = parser.parse_args()
    if given.estimate:
        estimate()
        return
    if given.tree is not None:
        given.tree.mkdir(parents=True)
        timed(f"{len(places())} folders made", lambda: make_tree(given.tree, given.duration_s, given.fps))
        return
    with tempfile.TemporaryDirectory(prefix="autohr-vipl-") as name:
        root, out = Path(name) / "VIPL-HR", Path(name) / "cache"
        root.mkdir()
        timed(f"{len(places())} folders made", lambda: make_tree(root))
        listing = timed("listed", lambda: vipl_hr.list_recordings(root))
        print(f"  {len(listing.recordings)} recordings, {len(listing.absent)} absent", flush=True)
        timed("cache filled", lambda: fill_cache(root, out))
        manifest = timed("listed, checked and merged", lambda: merge_dataset(vipl_hr.SPEC, root, out, CROP))
        counts = manifest.as_dict()["counts"]
        print(f"  {counts}; {len(manifest.as_dict()['recordings'])} recordings named in the manifest")
        opened = timed("cache opened", lambda: open_cached(out, CROP))
        print(f"  {len(opened)} segments")


if __name__ == "__main__":
    main()
