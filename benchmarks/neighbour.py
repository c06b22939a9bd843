"""One image at a time beside a busy neighbour: `python benchmarks/neighbour.py`.

OpenMP's threads spin while they wait: long by default, briefly with GOMP_SPINCOUNT=10000, which `uranet` and the page set, not at
all with OMP_WAIT_POLICY=passive. The neighbour is a busy process a core. Each case is a process of its own. Writes
docs/results/neighbour.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

from runs import ROOT, commit, write_report

IMAGES, ROUNDS = 10, 1
POLICIES = {
    "long": {},
    "briefly": {"GOMP_SPINCOUNT": "10000"},
    "not at all": {"OMP_WAIT_POLICY": "passive"},
}
CASES = [(policy, busy) for busy in (False, True) for policy in POLICIES]
TIMED = f"""
import json, sys, time
from ura_hf import load_detector
from ura_hf.data.drawn.parts import demo_image
detect = load_detector("uranet-demo-ring")
images = [demo_image("ring", seed)[0] for seed in range({IMAGES})]
detect(images[0])
times = []
for image in images:
    began = time.perf_counter()
    detect(image)
    times.append(1000 * (time.perf_counter() - began))
print(json.dumps(times))
"""


def milliseconds(policy: str, busy: bool) -> list[float]:
    """Of each image, in a process of its own."""
    kept = {name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    environment = {**kept, **POLICIES[policy]}
    count = (os.cpu_count() or 1) if busy else 0
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        run = subprocess.run([sys.executable, "-c", TIMED], env=environment, cwd=ROOT, capture_output=True, check=True)
        found: list[float] = json.loads(run.stdout.splitlines()[-1])
        return found
    finally:
        for other in others:
            other.kill()


def main() -> None:
    """Each case in turn, `ROUNDS` times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "docs/results/neighbour.json")
    output: Path = parser.parse_args().output
    times: dict[tuple[str, bool], list[float]] = {case: [] for case in CASES}
    for _ in range(ROUNDS):
        for case in CASES:
            times[case] += milliseconds(*case)
    cases: list[dict[str, Any]] = [
        {"spin": policy, "busy_neighbour": busy, "median_ms": median(found), "worst_ms": max(found)}
        for (policy, busy), found in times.items()
    ]
    write_report(output, {"images": ROUNDS * IMAGES, "commit": commit(), "cases": cases})


if __name__ == "__main__":
    main()
