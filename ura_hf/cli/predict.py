"""The command `uranet predict`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..model.errors import UserError
from .fields import FRAMES_HELP
from .predict_on_ray import ENGINE_HELP, RAY, add_engine, check_engine, path_or_address, predict_on_ray

if TYPE_CHECKING:
    from ..data.samples import LeftOut
    from ..evaluation.answers import Answers
    from ..evaluation.results_file import ResultsFile

SHOW_AFTER_SECONDS = 1  # a bar
RATES = ("threshold", "max_false_alarms", "max_review")
DEPENDS = (*RATES, "output", "heatmaps", "masks", "maps", "restored", "boxes")
"""The options that rows of a table and the files beside it depend on."""


def add_predict(commands: Any, add_command: Any) -> None:
    """Add the command to the parser's; `add_command` makes one."""
    parser = add_command(
        commands,
        "predict",
        _predict,
        "find anomalies in images",
        """Find anomalies in images: print verdict and score of each, and write what is asked for.

With --output, IMAGE gives STEM_heatmap.png, the image with its anomalies glowing (above 1 megapixel STEM_heatmap.jpg, its
longer side at most 2048 pixels); with --masks also STEM_mask.png, and with --maps STEM_map.npy (raw anomaly map, float32),
both at the image's size; with --restored STEM_restored.png, the part as it should look. Images of several folders keep their
subfolders. Scores run from 0 to 1; 0.5 is the calibrated threshold. A verdict is normal, review (look at it), anomalous, or
unknown (not this part at all). An unreadable image is reported and the others go on; the exit code is then 2. Every page of
a TIFF and every frame of an animation or a video is an image of its own, FILE#2 and so on.

With --csv, verdicts go to a table in place of the screen. Repeat an interrupted command: it does what is missing, and does
images again that could not be read, or whose files are newer than the table."""
        + ENGINE_HELP,
        "uranet predict runs/ring new/*.png --output results",
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="folder that `uranet train` wrote, or a bundled name")
    parser.add_argument("images", type=path_or_address, nargs="+", metavar="IMAGE", help="files, or folders of images")
    _add_outputs(parser)
    add_engine(parser)
    _add_reading(parser)
    _add_rates(parser)


def _add_reading(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", metavar="NAME", help="such as cpu or cuda:1 (default: the GPU if there is one)")
    parser.add_argument("--batch-size", type=int, default=8, help="images at once (default: %(default)s)")
    parser.add_argument("--recursive", action="store_true", help="read the subfolders of folders, too")
    parser.add_argument("--strict", action="store_true", help="refuse folders of which anything would be left out")
    parser.add_argument("--frames", default="all", metavar="WHICH", help=FRAMES_HELP)


def _add_rates(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--threshold", type=float, metavar="T", help="score, 0 to 1, above which an image is anomalous (default 0.5)"
    )
    parser.add_argument(
        "--max-false-alarms",
        type=float,
        metavar="SHARE",
        help="share of good parts that may be called anomalous, in place of --threshold",
    )
    parser.add_argument(
        "--max-review", type=float, metavar="SHARE", help="share of good parts beside these that may be called review"
    )


def _add_outputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--output", type=path_or_address, metavar="DIR", help="write heatmaps, and what else is wanted, there"
    )
    parser.add_argument("--no-heatmaps", action="store_false", dest="heatmaps", help="leave the heatmaps out")
    parser.add_argument("--masks", action="store_true", help="write masks of what is above the pixel threshold, too")
    parser.add_argument("--maps", action="store_true", help="write raw anomaly maps, too")
    parser.add_argument("--restored", action="store_true", help="write the part as it should look, too")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write a row for each image there; goes on with it")
    parser.add_argument("--boxes", type=Path, metavar="FILE", help="write boxes of anomalies there, as COCO JSON")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line instead of words")


def _predict(options: argparse.Namespace) -> None:
    from ..hub.download import checkpoint_folder
    from ..hub.exported import is_exported
    from ..hub.load import load_detector
    from ..model.frames import step_of
    from ..model.verdicts import check_threshold, limits

    check_engine(options)
    step_of(options.frames)  # what is wrong with it is said first
    rates = {"max_false_alarms": options.max_false_alarms, "max_review": options.max_review}
    if options.threshold is not None:
        check_threshold(options.threshold)
    answers = _answers(options)
    options.resumes = options.csv is not None or options.engine == RAY
    place = Path(options.checkpoint) if is_exported(options.checkpoint) else checkpoint_folder(options.checkpoint)
    detector = load_detector(place, device="cpu" if options.engine == RAY else options.device)
    limits(detector.model.config, options.threshold, **rates)  # what is wrong with them is said first
    if options.engine == RAY:
        predict_on_ray(options, place, rates, _settings(options, place, RATES))
    else:
        _predict_here(options, place, detector, answers, rates)


def _predict_here(
    options: argparse.Namespace, place: Path, detector: Any, answers: Answers, rates: Mapping[str, float | None]
) -> None:
    from ..data.files import write
    from ..data.folder import natural_key
    from ..data.left_out import as_record, used_table
    from ..evaluation.answers import answer_all
    from ..evaluation.coco import write_coco
    from ..model.frames import all_frames

    files, left_out = _list_images(options)
    images = all_frames(files, options.frames)
    boxes: list[dict[str, Any]] = []
    with _results_file(options, place, images) as file:
        missing = images if file is None else file.missing()
        record = None if file is None else file.add
        names = _names(images, file, options)
        results = answer_all(detector, missing, names, answers, record, options.batch_size, options.threshold, **rates)
        failed: set[str] = set()
        for result in _show(results, len(images), len(missing), options):
            failed |= {result["image"]} if "problem" in result else set()
            if options.boxes and file is None and "boxes" in result:
                boxes.append(result)
        if options.boxes:
            write(options.boxes, lambda path: write_coco((lambda: boxes) if file is None else file.boxes, path))
        if file is not None:
            counts = ", ".join(f"{count:,} {label}" for label, count in sorted(file.counts().items()))
            print(f"{options.csv}: {counts}", file=sys.stderr if options.json else sys.stdout)
    if any(place.is_dir() for place in options.images):
        used = {Path(image) for image in images if str(image) not in failed}
        left_out |= {"no_verdict": [Path(image) for image in sorted(failed, key=natural_key)]}
        print(used_table({"image files": len(used)}, as_record(left_out)), file=sys.stderr)
    if failed:
        raise UserError(f"{len(failed)} of {len(images)} images have no verdict, see above: replace or leave them out.")


def _answers(options: argparse.Namespace) -> Answers:
    from ..evaluation.answers import Answers

    for flag in ("masks", "maps", "restored"):
        if getattr(options, flag) and options.output is None:
            raise UserError(f"--{flag} writes a file for each image: name a folder with --output.")
    heatmaps = options.heatmaps and options.output is not None
    pictures = (heatmaps, options.masks, options.maps, options.restored)
    return Answers(options.output, *pictures, bool(options.boxes), options.csv is not None)


def _results_file(
    options: argparse.Namespace, checkpoint: Path, images: Sequence[Any]
) -> AbstractContextManager[ResultsFile | None]:
    """The table that --csv names, with all that its rows depend on: relative names of images on the working folder, too."""
    from ..evaluation.results_file import ResultsFile

    if options.csv is None:
        return nullcontext()
    settings = _settings(options, checkpoint, DEPENDS)
    if not all(os.path.isabs(image) for image in images):
        settings["working folder"] = os.getcwd()
    return ResultsFile(options.csv, settings, images, bool(options.boxes))


def _settings(options: argparse.Namespace, checkpoint: Path, names: Iterable[str]) -> dict[str, Any]:
    """JSON of the checkpoint and of options that results depend on."""
    from ..data.files import contents_digest
    from ..hub.load import detector_files

    given = {f"--{name.replace('_', '-')}": getattr(options, name) for name in names}
    shown = {name: str(value) if isinstance(value, Path) else value for name, value in given.items()}
    return {"checkpoint": contents_digest(detector_files(checkpoint)), **shown}


def _show(
    results: Iterator[dict[str, Any]], images: int, missing: int, options: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    """Print results as they come, beside a bar that only a terminal shows, and hand them on."""
    from tqdm import tqdm

    if missing < images:
        print(f"uranet: {options.csv} has {images - missing:,} of {images:,} images, going on", file=sys.stderr)
    with tqdm(initial=images - missing, total=images, unit="image", disable=None, delay=SHOW_AFTER_SECONDS) as bar:
        for result in results:
            with tqdm.external_write_mode():
                if "problem" in result:
                    print(f"uranet: {result['problem']}", file=sys.stderr)
                if options.json:
                    print(json.dumps(result), flush=True)
                elif options.csv is None and "problem" not in result:
                    print(_line(result), flush=True)
            bar.update()
            yield result


def _line(result: dict[str, Any]) -> str:
    rank = "" if result["rank_words"] is None else f", {result['rank_words']}"
    return (
        f"{result['image']}: {result['label']}, score {result['score']:.3f} (threshold {result['threshold']:.3g}){rank}"
    )


def _list_images(options: argparse.Namespace) -> tuple[list[Path], LeftOut]:
    """The images that files and folders name, each once, and what these folders hold beside them.

    Raises:
        UserError: There are none, or something is left out in spite of --strict.
    """
    from ..data.layouts import plain
    from ..data.left_out import joined, left_out_of, require_nothing_left_out

    found = [plain.read(place, options.recursive) for place in options.images if place.is_dir()]
    given = [place.resolve() for place in options.images]
    own = options.output.resolve() if options.recursive and options.output is not None else None
    own = None if own in given else own  # else of an earlier call
    images = [place for place in options.images if not place.is_dir()]
    images += [sample.image for folder in found for sample in folder.train]
    drawn = {image for image in images if own is not None and own in image.resolve().parents}
    images = [image for image in dict.fromkeys(images) if image not in drawn]
    if not images:
        raise UserError(
            f"{options.images[0]} holds no images itself: pass image files or folders that directly hold them, as DIR/*/, "
            "or add --recursive."
        )
    folders = [one for folder in found for one in folder.train_folders if one.resolve() != own]
    known = joined({"companions": sorted(drawn)}, *(folder.train_left_out for folder in found))
    left_out = left_out_of(folders, images, known)
    if options.strict:
        require_nothing_left_out(left_out)
    return images, left_out


def _names(images: Sequence[Any], file: ResultsFile | None, options: argparse.Namespace) -> dict[Any, str]:
    """`output_names`, none of which is of another image of the table."""
    if file is None or options.output is None:
        return output_names(images)
    names = output_names(images, before := file.names())
    file.keep_names(before | {str(image): name for image, name in names.items()})
    return names


def output_names(images: Sequence[Any], before: Mapping[str, str] | None = None) -> dict[Any, str]:
    """A different name for each image: its path below the folder that all share, without suffix where that is unique.

    Images that have a name `before` keep it, and no other image gets it.
    """
    full = {image: Path(os.path.abspath(getattr(image, "place", image))) for image in images}
    shared = os.path.commonpath([place.parent for place in full.values()])
    stems = {image: str(place.relative_to(shared).with_suffix("")) for image, place in full.items()}
    taken = Counter(stems.values())
    before = before or {}
    names = {image: before[str(image)] for image in images if str(image) in before}
    given = set(before.values())
    for image in [image for image in stems if image not in names]:
        name = stems[image]
        wanted = different = name if taken[name] == 1 else name + full[image].suffix
        number = 1
        while different in given:
            number += 1
            different = f"{wanted} ({number})"
        names[image] = different
        given.add(different)
    return names
