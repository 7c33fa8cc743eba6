"""``autohr synth`` and ``autohr prepare``: recordings made, and recordings made ready."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from autohr.cli.options import Box, completing
from autohr.cli.output import Count, print_line
from autohr.cli.outputs import check_writable
from autohr.errors import BadRecording
from autohr.lab.commands.options import (
    ClusterOption,
    ShardOption,
    WorkersOption,
    check_dataset,
    dataset_names,
    parse_shard,
)

if TYPE_CHECKING:
    from autohr.frontend import CropConfig
    from autohr.lab.datasets.cache import Manifest
    from autohr.lab.datasets.manifest import DatasetManifest


def synth(
    out: Annotated[Path, typer.Argument(help="Folder for the recordings; those that are there are kept.")],
    subjects: Annotated[int, typer.Option(min=1, max=100_000, help="Number of people.")] = 10,
    per_subject: Annotated[int, typer.Option(min=1, max=1000, help="Recordings of each person.")] = 2,
    duration_s: Annotated[
        float, typer.Option(min=4.0, max=3600.0, help="Length of each recording, in seconds.")
    ] = 20.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the people and the scenes.")] = 0,
    portraits: Annotated[
        Path | None,
        typer.Option(help="Folder of photographs with landmarks.npz, to animate.", exists=True, file_okay=False),
    ] = None,
    split: Annotated[
        Literal["all", "train", "test"], typer.Option(help="Part of the people; train and test share none of them.")
    ] = "all",
    hard: Annotated[
        bool, typer.Option("--hard", help="More nodding, talking, flicker, screens and odd frame rates, for training.")
    ] = False,
    workers: WorkersOption = None,
) -> None:
    """Make videos of faces with known pulse, drawn or from portraits, as a dataset named `synthetic`."""
    from autohr.lab.synth.recordings import HARD, USUAL, write_recordings

    check_writable(out / "dataset.json")
    with Count("Making recordings") as count:
        made = write_recordings(
            out,
            n_subjects=subjects,
            per_subject=per_subject,
            duration_s=duration_s,
            seed=seed,
            portraits=portraits,
            split=split,
            conditions=HARD if hard else USUAL,
            workers=workers,
            progress=lambda done, total, _: count(done, total),
        )
    print_line(f"{len(made.recordings)} recordings in {out}, {made.n_made} of them made now.")
    print_line(f"Next: autohr prepare synthetic {out} --out cache")


def make_demo_video(path: Path, hr_bpm: float, duration_s: float, seed: int) -> float | None:
    """Write a video of a drawn face for ``autohr demo``; return its true heart rate.

    The pulse is as deep as that of a real face in good light, and the bit rate that of a phone's video.
    """
    from autohr.lab.synth.video import SceneConfig, write_scene

    scene = SceneConfig(duration_s=duration_s, hr_bpm=hr_bpm, seed=seed, pulse_depth=0.02, noise_sd=1.5)
    return write_scene(scene, path, crf=8).mean_hr_bpm


DatasetArgument = Annotated[
    str,
    typer.Argument(
        help="One of `autohr list datasets`.", callback=check_dataset, autocompletion=completing(dataset_names)
    ),
]
CropSizeOption = Annotated[int, typer.Option(min=16, max=1024, help="Side of the stored crops, in pixels.")]
CropBoxOption = Annotated[
    Box, typer.Option(help="Crop: follow the face (tracked), or the box of the first frame, as the paper (first).")
]
MarginOption = Annotated[float, typer.Option(min=0.0, max=1.0, help="Margin around the face, as a share of the box.")]
AllowMissingOption = Annotated[
    bool, typer.Option("--allow-missing", help="Succeed although recordings are missing or damaged.")
]


def prepare(
    dataset: DatasetArgument,
    root: Annotated[Path, typer.Argument(help="Folder of the dataset.", exists=True, file_okay=False)],
    out: Annotated[Path, typer.Option(help="Folder of the cache; it may hold several datasets.")] = Path("cache"),
    size_px: CropSizeOption = 128,
    box: CropBoxOption = "tracked",
    margin: MarginOption = 0.1,
    workers: WorkersOption = None,
    cluster: ClusterOption = None,
    shard: ShardOption = None,
    allow_missing: AllowMissingOption = False,
) -> None:
    """Read, check, crop and cache a dataset for training and evaluation.

    What is in the cache already is compared with its checksums, and made anew where it is damaged. Several may work on
    one cache, also from several machines.

    A manifest and its page list every recording that the dataset should have. The exit code is 1 where one is missing
    or damaged; all usable ones are in the cache.
    """
    from autohr.frontend import CropConfig
    from autohr.lab.datasets import DATASETS
    from autohr.lab.datasets.manifest import prepare_dataset, prepare_shard

    check_writable(out / "manifest.json")
    crop, part = CropConfig(size_px=size_px, box=box, margin=margin), parse_shard(shard)
    with Count("Preparing") as count:

        def progress(done: int, total: int, _: object) -> None:
            count(done, total)

        if part is None:
            manifest = prepare_dataset(
                DATASETS[dataset], root, out, crop, workers=workers, cluster=cluster, progress=progress
            )
        else:
            made = prepare_shard(
                DATASETS[dataset], root, out, crop, part, workers=workers, cluster=cluster, progress=progress
            )
    if part is not None:
        _print_entries(made)
        print_line(f"Part {part.number} of {part.count}: {len(made.kept)} of {len(made.entries)} recordings kept.")
        print_line(
            f"When all parts are done: autohr merge {dataset} {root} --out {out} --size-px {size_px} --box {box} "
            f"--margin {margin:g}"
        )
        return
    _report(manifest, dataset, root, out, crop, allow_missing)


def merge(
    dataset: DatasetArgument,
    root: Annotated[Path, typer.Argument(help="Folder of the dataset.", exists=True, file_okay=False)],
    out: Annotated[Path, typer.Option(help="Folder of the cache.")] = Path("cache"),
    size_px: CropSizeOption = 128,
    box: CropBoxOption = "tracked",
    margin: MarginOption = 0.1,
    allow_missing: AllowMissingOption = False,
) -> None:
    """Write the manifest of a dataset whose parts were prepared with --shard, when all are there.

    No video is read. Refused where a recording is not accounted for, with the part to run again.
    """
    from autohr.frontend import CropConfig
    from autohr.lab.datasets import DATASETS
    from autohr.lab.datasets.manifest import merge_dataset

    crop = CropConfig(size_px=size_px, box=box, margin=margin)
    with Count("Merging") as count:
        manifest = merge_dataset(DATASETS[dataset], root, out, crop, progress=lambda done, total, _: count(done, total))
    _report(manifest, dataset, root, out, crop, allow_missing)


def _print_entries(manifest: Manifest) -> None:
    for one in manifest.entries:
        if one.made_anew is not None:
            print_line(f"Made anew {one.id}: {one.made_anew}")
    for one in manifest.excluded:
        print_line(f"Excluded {one.id}: {one.reason}")


def _report(
    manifest: DatasetManifest, dataset: str, root: Path, out: Path, crop: CropConfig, allow_missing: bool
) -> None:
    """Write the manifest's page, print what is in it, and fail where the dataset is not complete."""
    from autohr.lab.datasets.manifest import KINDS, manifest_path
    from autohr.lab.reports.manifest import write_manifest_page

    page = manifest_path(out, crop, dataset).with_suffix(".html")
    write_manifest_page(manifest.as_dict(), page)
    n_absent = f", {len(manifest.absent)} absent" if manifest.absent else ""
    _print_entries(manifest)
    for line in (
        *(f"Absent {one.id}: {one.reason}" for one in manifest.absent),
        *(f"{KINDS[one.kind].title}: {one.says}" for one in manifest.findings if not one.ids),
        *(f"Note: {note}" for note in manifest.notes),
        *(f"{KINDS[kind].title}: {n}" for kind, n in manifest.counts().items()),
        f"{len(manifest.kept)} of {len(manifest.entries)} recordings kept, "
        f"{len(manifest.excluded)} excluded{n_absent}; cache {out}.",
        f"Every recording: {page}",
    ):
        print_line(line)
    if not manifest.kept:
        has_reasons = manifest.excluded or manifest.absent
        why = "the reasons are above" if has_reasons else f"it holds none that the reader of {manifest.title} knows"
        raise BadRecording(f"Not one recording of {str(root)!r} could be used; {why}.")
    refusal = manifest.refusal()
    if refusal is not None and not allow_missing:
        raise BadRecording(f"{refusal} (--allow-missing accepts it; what is there was prepared.)")
