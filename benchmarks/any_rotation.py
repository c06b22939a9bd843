"""Parts in any rotation, and defects of a few pixels: `python benchmarks/any_rotation.py`.

MVTec's pills, each turned by an angle of its own (`turned.py`): as large as they are, and half as large and moved about. The
models of `peers.py` that need no long training learn them; everything else as there, whose options it takes.
Writes docs/results/any_rotation.json.
"""

from __future__ import annotations

from peers import ROOT, main
from sets import TURNED

if __name__ == "__main__":
    main(
        models=["uranet", "patchcore_0.01", "padim", "dfm", "fre"],
        datasets=list(TURNED),
        work=ROOT / "runs/any_rotation",
        output=ROOT / "docs/results/any_rotation.json",
    )
