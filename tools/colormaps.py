"""Write the colour maps that heatmaps use, 256 colours a row, so that showing a result needs no matplotlib.

python tools/colormaps.py
"""

from __future__ import annotations

import matplotlib
import numpy as np
from PIL import Image

from ura_hf.data.files import ASSETS
from ura_hf.evaluation.visualization import COLOR_MAPS


def main() -> None:
    """Write `colormaps.png` among the assets: a row of 256 RGB pixels for each name in COLOR_MAPS."""
    rows = [matplotlib.colormaps[name](np.arange(256), bytes=True)[:, :3] for name in COLOR_MAPS]
    Image.fromarray(np.stack(rows)).save(ASSETS / "colormaps.png", optimize=True)


if __name__ == "__main__":
    main()
