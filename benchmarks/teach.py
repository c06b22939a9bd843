"""How long the page takes to learn a part from photos: `python benchmarks/teach.py`. Writes docs/results/teach.json.

Drawn good rings are sent to the endpoint `teach` by a real client, as the tab does; the checkpoint in the zip that comes back is
then loaded and tried on drawn parts that it has not seen. Seconds are those of the whole answer, checks of the photos included.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
import zipfile
from datetime import date
from pathlib import Path

import gradio
import torch
from gradio_client import Client, handle_file
from PIL import Image
from sklearn.metrics import roc_auc_score
from started_page import ROOT, mebibytes, started_page

from ura_hf.data.drawn.parts import KINDS, demo_image
from ura_hf.hub.load import load_detector

FIRST_SEED = 90_000  # of the drawn parts, far from those of training and test
CHECKPOINT = "uranet-demo-ring"  # what the page begins with; the new part is another one


def draw(folder: Path, first: int, count: int, defect: str | None) -> list[str]:
    """Files of drawn rings with one defect type, None for good ones."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for seed in range(first, first + count):
        paths.append(str(folder / f"{defect or 'good'}-{seed}.png"))
        Image.fromarray(demo_image("ring", seed, defect)[0]).save(paths[-1])
    return paths


def main() -> None:
    """Teach, try, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=30)
    parser.add_argument(
        "--tried", type=int, default=10, help="parts of each defect type, and four times as many good ones"
    )
    parser.add_argument("--output", type=Path, default=ROOT / "docs/results/teach.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        photos = draw(folder / "photos", FIRST_SEED, options.photos, None)
        with started_page("--checkpoint", CHECKPOINT) as (address, process, _):
            client = Client(address, verbose=False)
            started = time.monotonic()
            report, archive, *_ = client.predict(
                [handle_file(path) for path in photos], "drawn ring", api_name="/teach"
            )
            seconds = time.monotonic() - started
            memory = mebibytes(process)
            with zipfile.ZipFile(archive) as file:
                file.extractall(folder / "taught")
        (config,) = (folder / "taught").rglob("config.json")
        detect = load_detector(config.parent)
        seed = FIRST_SEED + options.photos
        tried: dict[str, list[float]] = {}
        for defect in (None, *KINDS["ring"][2]):
            count = options.tried * (1 if defect else 4)
            files = draw(folder / "tried", seed, count, defect)
            tried[defect or "good"], seed = [detect(path)["score"] for path in files], seed + count
    good = tried.pop("good")
    result = {
        "command": "python benchmarks/teach.py " + " ".join(sys.argv[1:]),
        "date": f"{date.today():%Y-%m-%d}",
        "hardware": f"{os.cpu_count()} CPU cores ({platform.machine()})",
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "gradio": gradio.__version__},
        "photos": report["photos"],
        "seconds": round(seconds, 1),
        "load_average_at_end": round(os.getloadavg()[0], 1),
        "memory_of_the_page_mib": memory,
        "false_alarms_foretold": report["false_alarms"],
        "false_alarms_seen": sum(score > 0.5 for score in good) / len(good),
        "good_parts_tried": len(good),
        "image_auroc": {
            defect: round(float(roc_auc_score([0] * len(good) + [1] * len(scores), good + scores)), 4)
            for defect, scores in tried.items()
        },
        "found": {defect: sum(score > 0.5 for score in scores) / len(scores) for defect, scores in tried.items()},
    }
    print(json.dumps(result, indent=2))
    options.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
