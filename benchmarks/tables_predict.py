"""Markdown tables of what `uranet predict` was measured at, from the results of `throughput.py` and `big_photos.py`."""

from __future__ import annotations

from typing import Any

from tables_captions import caption, table


def throughput(report: dict[str, Any]) -> str:
    """Tables of `benchmarks/throughput.py`: images a second by what is written, and memory by the number of images."""
    rows = [
        [
            case["case"],
            f"{case['images_per_second']:.1f}",
            f"{case['share_of_model']:.0%}",
            f"{case['processor_ms_per_image']:.1f}",
        ]
        for case in report["cases"]
    ]
    lines = table(["what", "images per second", "of the model alone", "processor ms per image"], rows)
    memory = [[f"{one['images']:,}", f"{one['rows']:,}", f"{one['peak_mib']} MiB"] for one in report["memory"]]
    data = (
        f"{report['images']} drawn rings, `{report['checkpoint']}`, batches of {report['batch_size']}, "
        f"median of {report['rounds']} rounds in turns; memory with a small model and images of 64x64"
    )
    more = table(["images", "rows", "peak memory of the process"], memory)
    return "\n".join([*lines, "", *more, "", caption(report, report["command"], data)])


def big_photos(report: dict[str, Any]) -> str:
    """Table of `benchmarks/big_photos.py`: processor seconds and bytes a pixel, before and now."""
    rows = []
    for case in report["cases"]:
        if case["now"]:
            key = [case[name] for name in ("megapixels", "format", "writes")]
            before = next(
                (
                    one
                    for one in report["cases"]
                    if not one["now"] and [one[name] for name in ("megapixels", "format", "writes")] == key
                ),
                None,
            )
            both = [before, case]
            rows.append(
                [
                    f"{case['megapixels']} MP {case['format']}",
                    "verdict and heatmap" if case["writes"] else "verdict",
                    f"{case['decoding_seconds']:.2f} s",
                    " → ".join("-" if one is None else f"{one['besides_seconds']:.2f} s" for one in both),
                    f"{case['besides_of_decoding']:.1f}",
                    " → ".join("-" if one is None else f"{one['bytes_per_pixel']:.1f}" for one in both),
                ]
            )
    head = ["photo", "what", "decoding", "all but the network", "times decoding", "bytes a pixel"]
    data = "drawn rings with grain, one thread, processor seconds, before → now"
    return "\n".join([*table(head, rows), "", caption(report, report["command"], data)])
