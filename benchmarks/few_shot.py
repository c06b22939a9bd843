"""URA-Net and what anomalib fits quickly, on ten good images, the same ones: `python benchmarks/few_shot.py`.

Everything else as in `peers.py`, whose options it takes. Writes docs/results/few_shot.json.
"""

from __future__ import annotations

from peers import ROOT, main

if __name__ == "__main__":
    main(
        limit=10,
        models=["uranet", "patchcore_0.1", "patchcore_all", "padim", "dfm", "fre"],
        datasets=["pill", "bottle"],
        work=ROOT / "runs/few_shot",
        output=ROOT / "docs/results/few_shot.json",
    )
