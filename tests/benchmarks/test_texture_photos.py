"""Photos of scikit-image as a source of artificial anomalies: what is said of the runs."""

from __future__ import annotations

from texture_photos import FIGURES, SOURCES, VIEWS, gains


def test_gains_are_of_the_same_data_set_and_seed():
    values = {("a", 0): (0.5, 0.6, 0.8), ("a", 1): (0.5, 0.7, 0.6)}
    runs = [
        {"dataset": name, "seed": seed, "source": source, **{view: dict.fromkeys(FIGURES, value) for view in VIEWS}}
        for (name, seed), row in values.items()
        for source, value in zip(SOURCES, row, strict=True)
    ]
    found = gains(runs)
    assert len(found) == 2 * len(VIEWS) * len(FIGURES)
    assert found["photos - generated, restored, pixel_ap"] == {"mean": 0.05, "least": -0.1, "most": 0.2}
    assert found["photos - none, perceived, image_auroc"] == {"mean": 0.2, "least": 0.1, "most": 0.3}
