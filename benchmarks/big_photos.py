"""Large photos through `uranet predict`, before and now: `python benchmarks/big_photos.py`.

Drawn photos as JPEG and PNG, with the grain of a camera. Each measurement is a process of its own with one thread. Seconds are of
the processor: of decoding the file with Pillow, and of the command without loading the model and without the network. The peak
memory is what the photo adds to that of the process after two small ones (Linux). `--before COMMIT` measures an earlier commit,
too, in a worktree of its own. Writes docs/results/big_photos.json.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image, ImageChops
from runs import ROOT, commit, write_report

from ura_hf.data.drawn.parts import demo_image

SIZES = {12: (4000, 3000), 25: (5760, 4320), 96: (12000, 8000)}  # megapixels: width and height
KINDS = ("jpg", "png")
GRAIN = 7  # deviation of the noise, of 255
MEASURED = """
import io, json, re, sys, time
from pathlib import Path
from PIL import Image
from ura_hf.cli.main import main
from ura_hf.hub import load
from ura_hf.model.modeling_uranet import URANetForAnomalyDetection

small, large, folder = sys.argv[1:]
Image.MAX_IMAGE_PIXELS = None
detector, network = load.load_detector("uranet-demo-ring"), []
load.load_detector = lambda *arguments, **more: detector
forward = URANetForAnomalyDetection.forward

def kib(name):
    return int(re.search(name + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

def timed(*arguments, **more):
    began = time.process_time()
    try:
        return forward(*arguments, **more)
    finally:
        network.append(time.process_time() - began)

URANetForAnomalyDetection.forward = timed
output = [] if folder == "-" else ["--output", folder]
for _ in range(2):
    assert main(["predict", "uranet-demo-ring", small, *output]) == 0
Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
idle = kib("VmRSS")
network.clear()
began = time.process_time()
assert main(["predict", "uranet-demo-ring", large, *output]) == 0
whole = time.process_time() - began
peak = kib("VmHWM")
times = []
for _ in range(2):
    data, began = open(large, "rb").read(), time.process_time()
    Image.open(io.BytesIO(data)).load()
    times.append(time.process_time() - began)
print(json.dumps({"network": sum(network), "besides": whole - sum(network), "decoding": min(times), "kib": peak - idle}))
"""


@contextlib.contextmanager
def checkout(name: str | None) -> Iterator[Path]:
    """The folder of a commit; that of this one for None."""
    if name is None:
        yield ROOT
        return
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["git", "worktree", "add", "--detach", f"{folder}/tree", name], cwd=ROOT, check=True)
        try:
            yield Path(folder) / "tree"
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", f"{folder}/tree"], cwd=ROOT, check=True)


def draw(folder: Path, megapixels: int, kind: str) -> Path:
    """A ring of this size, with a defect; as JPEG about a third of a byte a pixel, as cameras write it."""
    path = folder / f"{megapixels}.{kind}"
    picture = Image.fromarray(demo_image("ring", 0, "scratch")[0]).resize(SIZES[megapixels], Image.Resampling.BICUBIC)
    grain = Image.effect_noise((1000, 1000), GRAIN)
    for left in range(0, picture.width, 1000):
        for top in range(0, picture.height, 1000):
            tile = picture.crop((left, top, left + 1000, top + 1000))
            picture.paste(ImageChops.add(tile, Image.merge("RGB", [grain] * 3), scale=1, offset=-128), (left, top))
    picture.save(path, **({"compress_level": 1} if kind == "png" else {"quality": 90}))
    return path


def measure(tree: Path, small: Path, large: Path, pixels: int, writes: bool) -> dict[str, Any]:
    """One row: seconds of the processor, and bytes a pixel."""
    environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", MEASURED, str(small), str(large), folder if writes else "-"]
        done = subprocess.run(command, env=environment, cwd=tree, stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    return {
        "decoding_seconds": round(found["decoding"], 3),
        "network_seconds": round(found["network"], 3),
        "besides_seconds": round(found["besides"], 3),
        "besides_of_decoding": round(found["besides"] / found["decoding"], 2),
        "file_bytes_per_pixel": round(large.stat().st_size / pixels, 2),
        "bytes_per_pixel": round(1024 * found["kib"] / pixels, 1),
    }


def main() -> None:
    """Measure all and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", choices=SIZES, default=list(SIZES), help="megapixels")
    parser.add_argument("--before", metavar="COMMIT", help="an earlier commit to measure")
    parser.add_argument(
        "--before-sizes", type=int, nargs="+", choices=SIZES, default=[12, 25], help="the largest took 12 GB"
    )
    parser.add_argument("--output", type=Path, default=ROOT / "docs/results/big_photos.json")
    parser.add_argument("--add", action="store_true", help="keep what else the file holds")
    options = parser.parse_args()
    cases = {_key(case): case for case in json.loads(options.output.read_text())["cases"]} if options.add else {}
    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder) / "small.png"
        Image.fromarray(demo_image("ring", 1)[0]).save(small)
        for version in dict.fromkeys([options.before, None]):
            sizes = options.sizes if version is None else options.before_sizes
            with checkout(version) as tree:
                for megapixels, kind in ((size, kind) for size in sizes for kind in KINDS):
                    width, height = SIZES[megapixels]
                    large = draw(Path(folder), megapixels, kind)
                    for writes in (False, True):
                        row = measure(tree, small, large, width * height, writes)
                        about = {"commit": version or commit(), "now": version is None, "megapixels": megapixels}
                        case = {**about, "format": kind, "writes": writes, **row}
                        cases[_key(case)] = case
                        print(case, file=sys.stderr)
                    large.unlink()
    write_report(options.output, {"commit": commit(), "cases": list(cases.values())})


def _key(case: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(case[name] for name in ("now", "megapixels", "format", "writes"))


if __name__ == "__main__":
    main()
