"""URA-Net and what anomalib fits quickly, on solar cells that pip brings: `python benchmarks/peers_solar.py`.

Runs on any machine with `pip install -e '.[benchmarks]'`. The ResNet-18 weights come from the Hugging Face Hub where --shared has
none; without network add `--backbone uranet-small`. Everything else as in `peers.py`, whose options it takes. Prints the table.
"""

from __future__ import annotations

import json

from peers import ROOT, main
from sets import SOLAR
from tables_methods import solar

if __name__ == "__main__":
    work = ROOT / "runs/peers_solar"
    output = main(
        models=["uranet", "patchcore_0.01", "padim", "dfm", "fre"],
        datasets=[SOLAR],
        seeds=[0],
        work=work,
        output=work / "peers.json",
    )
    print(solar(json.loads(output.read_text())))
