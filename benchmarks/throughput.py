"""Many small images through `uranet predict`: `python benchmarks/throughput.py`.

Images a second of the model alone, of verdicts into a table, and with files, taking turns in one process whose waiting threads
spin as briefly as those of `uranet`; and the peak memory of the command at 1,000 and 10,000 images, each a process of its own
with a small model. Writes docs/results/throughput.json.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import scaling
import torch
from PIL import Image
from runs import ROOT, commit, cpu_seconds, write_report

from ura_hf import URANetConfig, URANetForAnomalyDetection, URANetImageProcessor, load_detector
from ura_hf.cli.main import main as uranet
from ura_hf.data.drawn.parts import demo_image
from ura_hf.data.threads import wait_briefly
from ura_hf.evaluation.answers import Answers, answer_all
from ura_hf.evaluation.results_file import ResultsFile

CHECKPOINT, BATCH, ROUNDS = "uranet-demo-ring", 8, 5
COUNTS = (1000, 10000)
WANTED = {
    "verdicts": Answers(fraction=True),
    "verdicts, masks and boxes": Answers(Path("files"), masks=True, boxes=True, fraction=True),
    "verdicts, masks, boxes and heatmaps": Answers(Path("files"), heatmaps=True, masks=True, boxes=True, fraction=True),
}


def turns(work: Path, images: int) -> list[dict[str, Any]]:
    """Images a second, and processor seconds an image, of each case; medians over rounds in which the cases take turns."""
    detector = load_detector(CHECKPOINT)
    paths = [work / f"{index}.png" for index in range(images)]
    for index, path in enumerate(paths):
        Image.fromarray(demo_image("ring", index, "scratch" if index % 10 == 0 else None)[0]).save(path)
    pixels = torch.cat([detector.image_processor(path, return_tensors="pt")["pixel_values"] for path in paths])
    names = {path: path.stem for path in paths}

    def model_alone() -> None:
        with torch.inference_mode():
            for batch in pixels.split(BATCH):
                detector.model(batch, num_samples=0)

    def whole(case: str, answers: Answers) -> None:
        table = work / f"{len(list(work.iterdir()))}.csv"
        with ResultsFile(table, {"case": case}, paths, answers.boxes) as file:
            for _ in answer_all(detector, paths, names, answers, file.add, BATCH):
                pass

    cases: dict[str, Callable[[], None]] = {"model alone": model_alone}
    for case, wanted in WANTED.items():
        answers = Answers(**{**vars(wanted), "folder": work / "files"})
        cases[case] = lambda case=case, answers=answers: whole(case, answers)  # type: ignore[misc]
    times: dict[str, list[tuple[float, float]]] = {case: [] for case in cases}
    for _ in range(ROUNDS + 1):
        for case, call in cases.items():
            began, before = time.perf_counter(), cpu_seconds()
            call()
            times[case].append((time.perf_counter() - began, cpu_seconds() - before))
    rows = []
    for case, found in times.items():
        seconds, processor = (median(values) for values in zip(*found[1:], strict=True))
        ratios = [alone[0] / own[0] for alone, own in zip(times["model alone"][1:], found[1:], strict=True)]
        figures = {"images_per_second": images / seconds, "processor_ms_per_image": 1000 * processor / images}
        rows.append({"case": case, **figures, "share_of_model": median(ratios)})
    return rows


def small_checkpoint(folder: Path) -> Path:
    """A small model that was never trained, with thresholds."""
    torch.manual_seed(0)
    model = URANetForAnomalyDetection(URANetConfig(**scaling.TINY, image_threshold=1.0, pixel_threshold=1.0))
    model.backbone.set_statistics(torch.ones_like(model.backbone.mean), model.backbone.std)
    model.save_pretrained(folder)
    URANetImageProcessor(size={"height": scaling.SIDE, "width": scaling.SIDE}).save_pretrained(folder)
    return folder


def memory(work: Path, count: int) -> dict[str, Any]:
    """Peak memory of `uranet predict` on so many files, in a process of its own."""
    folder, rng = work / f"images{count}", np.random.default_rng(0)
    scaling.draw(folder / "0.png", rng)
    data = (folder / "0.png").read_bytes()
    for index in range(1, count):
        (folder / f"{index}.png").write_bytes(data)
    checkpoint = small_checkpoint(work / f"checkpoint{count}")
    command = [sys.executable, __file__, "--only", checkpoint, folder, work / f"{count}.csv"]
    began = time.perf_counter()
    done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT)
    peak = json.loads(done.stdout.splitlines()[-1])
    rows = len((work / f"{count}.csv").read_text().splitlines()) - 1
    return {"images": count, "rows": rows, "peak_mib": peak, "seconds": round(time.perf_counter() - began, 1)}


def main() -> None:
    """Measure all and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=80, help="of a round (default: %(default)s)")
    parser.add_argument(
        "--counts",
        type=int,
        nargs="*",
        default=list(COUNTS),
        help="images whose memory is measured; none keeps what was",
    )
    parser.add_argument("--output", type=Path, default=ROOT / "docs/results/throughput.json")
    parser.add_argument("--only", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        checkpoint, folder, table = options.only
        code = uranet(["predict", checkpoint, folder, "--csv", table, "--boxes", f"{table}.json"])
        print(round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))
        sys.exit(code)
    before = dict(os.environ)
    wait_briefly()
    if os.environ != before:  # torch, which is imported above, has read them already
        os.execv(sys.executable, [sys.executable, *sys.argv])
    with tempfile.TemporaryDirectory() as folder:
        growth = [memory(Path(folder), count) for count in options.counts]
    growth = growth or json.loads(options.output.read_text())["memory"]
    with tempfile.TemporaryDirectory() as folder:
        rows = turns(Path(folder), options.images)
    facts = {"checkpoint": CHECKPOINT, "batch_size": BATCH, "images": options.images, "rounds": ROUNDS}
    write_report(options.output, {**facts, "commit": commit(), "cases": rows, "memory": growth})


if __name__ == "__main__":
    main()
