"""Compare the shipped face detector (MTCNN) with the 320-pixel RFB net: faces found, false finds, boxes, time, rates.

    pip download vitallens==0.6.2 --no-deps
    python benchmarks/detectors.py vitallens-0.6.2-py3-none-any.whl --portraits ../shared/data/portraits \
        --videos ../shared/data/videos/*.* ../shared/data/talkers/*.mp4 --measure ../shared/data/real/ecg_76bpm.mp4

RFB is "Ultra-Light-Fast-Generic-Face-Detector-1MB" (MIT), read from inside the wheel and used as vitallens uses it: the
frame stretched to 320 x 240, score of at least 0.9, overlap of at most 0.3. It finds boxes without landmarks. To be
measured with, its box is moved and scaled by its mean offset from MTCNN's and given landmarks at their mean places.

The truth of a portrait is the box around its 468 face points (``landmarks.npz``). A face is found when a box has its
centre inside this one and a size (root of the area) between half and twice its size; every other box is a false find.
"""

from __future__ import annotations

import argparse
import time
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import onnxruntime

from autohr.errors import AutoHRError
from autohr.measure import answer
from autohr.meter import Meter, MeterConfig
from autohr.methods import load_method
from autohr.types import Float, Frame, Frames
from autohr.video.decode import open_video
from autohr.video.detector import Detection, Detects, FaceDetector
from results import markdown_table, save_result

SCORE, OVERLAP = 0.9, 0.3
RFB_SIZE = (320, 240)
EVERY_S = 0.5
"""Time between the frames of a video that are looked at."""
TILES, N_SHUFFLED = 10, 40


class RfbDetector:
    """The RFB net with the interface of ``FaceDetector``; ``to_mtcnn`` (4,) as ``offsets`` gives it is taken out."""

    def __init__(self, wheel: Path, to_mtcnn: Float | None = None, landmarks: Float | None = None) -> None:
        with zipfile.ZipFile(wheel) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith("model_rfb_320.onnx"))
            model = archive.read(name)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0].name
        self.to_mtcnn = np.zeros(4) if to_mtcnn is None else to_mtcnn
        self.landmarks = np.full((5, 2), 0.5) if landmarks is None else landmarks

    def detect(self, frame: Frame) -> list[Detection]:
        small = cv2.resize(frame, RFB_SIZE, interpolation=cv2.INTER_LINEAR)
        (out,) = self.session.run(None, {self.input: (small[None].astype(np.float32) - 127) / 128})
        rows = out[0][out[0][:, 1] >= SCORE].astype(np.float64)
        sides = np.array([frame.shape[1], frame.shape[0]])
        boxes = np.concatenate([rows[:, -4:-2] * sides, (rows[:, -2:] - rows[:, -4:-2]) * sides], axis=1)
        kept = cv2.dnn.NMSBoxes(boxes.tolist(), rows[:, 1].tolist(), SCORE, OVERLAP)
        found = []
        for i in np.asarray(kept, dtype=int).ravel():
            size = boxes[i, 2:] / np.exp(self.to_mtcnn[2:])
            centre = boxes[i, :2] + boxes[i, 2:] / 2 - self.to_mtcnn[:2] * size
            corner = centre - size / 2
            found.append(Detection(np.concatenate([corner, size]), float(rows[i, 1]), corner + self.landmarks * size))
        return sorted(found, key=lambda face: -float(face.box_xywh[2]) * face.score)


def offsets(box_xywh: Float, mtcnn_xywh: Float) -> Float:
    """Return (4,) the offset of a box from MTCNN's: of the centre in MTCNN's width and height, and log size ratios."""
    apart = box_xywh[:2] + box_xywh[2:] / 2 - mtcnn_xywh[:2] - mtcnn_xywh[2:] / 2
    return np.concatenate([apart / mtcnn_xywh[2:], np.log(box_xywh[2:] / mtcnn_xywh[2:])])


def is_face(box_xywh: Float, true_xywh: Float) -> bool:
    """Return True when the box shows the face whose points fill ``true_xywh``."""
    apart = np.abs(box_xywh[:2] + box_xywh[2:] / 2 - true_xywh[:2] - true_xywh[2:] / 2)
    ratio = float(np.sqrt(np.prod(box_xywh[2:]) / np.prod(true_xywh[2:])))
    return bool((apart < true_xywh[2:] / 2).all()) and 0.5 < ratio < 2


def around(points: Float) -> Float:
    """Return the box (4,) left, top, width, height around points (N, 2)."""
    low, high = points.min(axis=0), points.max(axis=0)
    return np.concatenate([low, high - low])


def read_portraits(folder: Path) -> Iterator[tuple[Frame, Float]]:
    """Yield each portrait with its face points (468, 2); those without points are left out."""
    with np.load(folder / "landmarks.npz") as points:
        for path in sorted(folder.glob("*.jpg")):
            picture = cv2.imread(str(path))
            if picture is not None and path.stem in points:
                yield np.ascontiguousarray(picture[:, :, ::-1]), points[path.stem][:, :2].astype(np.float64)


def variants(picture: Frame, points: Float) -> Iterator[tuple[str, Frame, Float]]:
    """Yield the portrait as it is, small, dark and turned, each with its name and the true box."""
    height, width = picture.shape[:2]
    yield "full size", picture, around(points)
    small = np.asarray(cv2.resize(picture, (96, 96), interpolation=cv2.INTER_AREA), dtype=np.uint8)
    yield "96 px", small, around(points * 96 / [width, height])
    yield "15 % brightness", (picture * 0.15).astype(np.uint8), around(points)
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), 30, 1.0)
    turned = cv2.warpAffine(picture, turn, (width, height), borderMode=cv2.BORDER_REPLICATE)
    yield "turned 30 degrees", np.asarray(turned, dtype=np.uint8), around(points @ turn[:, :2].T + turn[:, 2])


def shuffled(picture: Frame, seed: int) -> Frame:
    """Return the picture with its ``TILES`` x ``TILES`` tiles in a random order: its colours and edges, but no face."""
    side = picture.shape[0] // TILES
    corners = [(side * row, side * column) for row in range(TILES) for column in range(TILES)]
    out = np.empty((TILES * side, TILES * side, 3), np.uint8)
    for (y, x), k in zip(corners, np.random.default_rng(seed).permutation(len(corners)), strict=True):
        from_y, from_x = corners[k]
        out[y : y + side, x : x + side] = picture[from_y : from_y + side, from_x : from_x + side]
    return out


def frames_of(path: Path) -> Iterator[Frame]:
    """Yield a frame of the video every ``EVERY_S``."""
    next_s = 0.0
    with open_video(path) as video:
        for frame in video:
            if frame.t_s >= next_s:
                next_s = frame.t_s + EVERY_S
                yield frame.rgb


def rate(path: Path, detector: Detects) -> str:
    """Measure the video's largest face with AutoHR and faces from ``detector``, as ``measure`` does."""
    meter, readings, times = Meter(load_method("autohr"), MeterConfig(), detector=detector), [], []
    with open_video(path) as video:
        for frame in video:
            readings += meter.push(frame.rgb, frame.t_s, whole=frame.whole)
            times.append(frame.t_s)
    readings += meter.finish()
    frames = Frames(read=len(times), face=meter.n_face, repaired=0, dropped=0)
    try:
        face = answer(meter, readings, path=str(path), duration_s=times[-1] - times[0], frames=frames, notes=[]).face
    except AutoHRError as error:
        return type(error).__name__
    return f"{face.hr_bpm or 0:.2f} bpm, confidence {face.confidence:.3f}, {face.snr_db or 0:.2f} dB"


def milliseconds(detector: Detects, frames: Sequence[Frame]) -> float:
    """Return the median processor time of one search in milliseconds, this thread alone."""
    spent = []
    for frame in frames:
        start = time.thread_time()
        detector.detect(frame)
        spent.append(time.thread_time() - start)
    return 1e3 * float(np.median(spent))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--portraits", type=Path, required=True)
    parser.add_argument("--videos", type=Path, nargs="*", default=[])
    parser.add_argument("--measure", type=Path, nargs="*", default=[])
    parser.add_argument("--out-result", type=Path, help="result file, docs/results/detector.json")
    options = parser.parse_args()
    mtcnn, rfb = FaceDetector(), RfbDetector(options.wheel)
    detectors: dict[str, Detects] = {"MTCNN": mtcnn, "RFB": rfb}
    portraits = list(read_portraits(options.portraits))

    pairs, marks = [], []
    cases: dict[str, dict[str, list[int]]] = {}
    for picture, points in portraits:
        for case, frame, true_xywh in variants(picture, points):
            finds = {name: detector.detect(frame) for name, detector in detectors.items()}
            for name, faces in finds.items():
                hits = sum(is_face(face.box_xywh, true_xywh) for face in faces)
                count = cases.setdefault(case, {}).setdefault(name, [0, 0])
                count[0] += hits > 0
                count[1] += len(faces) - min(hits, 1)
            ours, theirs = ([f for f in finds[n] if is_face(f.box_xywh, true_xywh)] for n in detectors)
            if case == "full size" and ours and theirs:
                pairs.append(offsets(theirs[0].box_xywh, ours[0].box_xywh))
                marks.append((ours[0].landmarks - ours[0].box_xywh[:2]) / ours[0].box_xywh[2:])
    columns = ["picture", *(f"{name}: {what}" for name in detectors for what in ("found", "false"))]
    table: list[list[object]] = [
        [case, *(n for pair in counts.values() for n in pair)] for case, counts in cases.items()
    ]
    print(f"{len(portraits)} portraits\n" + markdown_table(columns, table))

    scrambled = [shuffled(picture, seed) for seed, (picture, _) in enumerate(portraits[:N_SHUFFLED])]
    any_find = {name: sum(bool(d.detect(frame)) for frame in scrambled) for name, d in detectors.items()}
    print(
        f"\n{len(scrambled)} pictures of shuffled tiles, any find: "
        + ", ".join(f"{k} {n}" for k, n in any_find.items())
    )

    if options.videos:
        print("\n| video | frames | MTCNN faces | RFB faces |")
    for path in options.videos:
        counted = np.array([[len(d.detect(frame)) for d in detectors.values()] for frame in frames_of(path)])
        print(f"| {path.name} | {len(counted)} | " + " | ".join(f"{n:.2f}" for n in counted.mean(axis=0)) + " |")
    frames = [np.asarray(cv2.resize(picture, (640, 480)), dtype=np.uint8) for picture, _ in portraits]
    spent_ms = {f"{name} ms": milliseconds(d, frames) for name, d in detectors.items()}
    print("\nPer 640x480 frame: " + ", ".join(f"{name} {ms:.1f}" for name, ms in spent_ms.items()))
    if options.out_result is not None:
        save_result(
            options.out_result,
            question="How many faces does the shipped detector find, and how long does it take?",
            values=spent_ms,
            tables={"portraits": {"columns": columns, "rows": table}},
        )

    mean, sd = np.mean(pairs, axis=0), np.std(pairs, axis=0)
    names = ("x", "y", "log width", "log height")
    print(f"RFB's box against MTCNN's, {len(pairs)} portraits, mean (sd) in shares of MTCNN's box:")
    print(", ".join(f"{name} {m:+.3f} ({s:.3f})" for name, m, s in zip(names, mean, sd, strict=True)))
    moved = RfbDetector(options.wheel, to_mtcnn=mean, landmarks=np.mean(marks, axis=0))
    for path in options.measure:
        print(f"{path.name}: MTCNN {rate(path, mtcnn)}; RFB moved {rate(path, moved)}")


if __name__ == "__main__":
    main()
