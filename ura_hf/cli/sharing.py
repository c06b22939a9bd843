"""The commands `uranet push`, `uranet space`, `uranet list`, `uranet card` and `uranet export`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..data.extras import install_command
from ..model.errors import UserError

AddCommand = Callable[..., argparse.ArgumentParser]


def add_sharing(commands: Any, add_command: AddCommand) -> None:
    """Add the parsers of the five commands."""
    _add_push(commands, add_command)
    _add_space(commands, add_command)
    _add_list(commands, add_command)
    _add_card(commands, add_command)
    _add_export(commands, add_command)


def _add_push(commands: Any, add_command: AddCommand) -> None:
    parser = add_command(
        commands,
        "push",
        _push,
        "upload a checkpoint to the Hugging Face Hub",
        """Upload a checkpoint to the Hugging Face Hub: weights as safetensors, configs, the code that loads them without this
package, records, and a model card with the figures of `uranet evaluate --save`, or the sentence that there are none.

Log in first with `hf auth login`. With --all, every checkpoint in a folder goes to --to NAMESPACE under its folder's
name; a repeated call sends only what changed, so an interrupted one can simply be repeated.""",
        "uranet push runs/ring --to me/uranet-ring --private",
        resumes=True,
    )
    parser.add_argument("checkpoint", nargs="?", metavar="CHECKPOINT", help="folder or name of one checkpoint")
    parser.add_argument("--all", type=Path, metavar="DIR", help="push every checkpoint in this folder")
    parser.add_argument("--to", required=True, metavar="NAMESPACE/NAME", help="repository; with --all the namespace")
    parser.add_argument("--private", action="store_true", help="make a new repository private")
    parser.add_argument("--license", metavar="ID", help="of the weights; default: that of the dataset in the name")


def _add_space(commands: Any, add_command: AddCommand) -> None:
    parser = add_command(
        commands,
        "space",
        _space,
        "make a Hugging Face Space of a checkpoint",
        """Make a Hugging Face Space: the page, opened on a checkpoint. The Space holds the checkpoint, this package, and the
photos of --examples. With --output nothing is uploaded.

Log in first with `hf auth login`. A repeated call replaces checkpoint, examples and package. It takes the sources of a
clone of the repository.""",
        "uranet space runs/first --to me/my-part --examples new/1.png new/2.png",
        resumes=True,
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="folder or name")
    parser.add_argument("--to", metavar="NAMESPACE/NAME", help="the Space, made if absent")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="write its files into this new folder and upload nothing"
    )
    parser.add_argument(
        "--examples", type=Path, nargs="+", default=[], metavar="PHOTO", help="to try it with; all see them"
    )
    parser.add_argument("--private", action="store_true", help="make a new Space private")
    parser.add_argument("--license", metavar="ID", help="of the weights; default: that of the dataset in the name")


def _add_list(commands: Any, add_command: AddCommand) -> None:
    parser = add_command(
        commands,
        "list",
        _list,
        "show bundled, local and published checkpoints",
        """Show the checkpoints that are bundled, those in the folder URA_HF_CHECKPOINTS, and those in the Hub namespace
URA_HF_NAMESPACE where one is set and the Hub can be reached, with their figures. Then the names of the datasets' checkpoints
that are in none of these places, and the commands that make them: none is in the package.""",
        "uranet list",
    )
    parser.add_argument("--offline", action="store_true", help="leave the Hub alone")


def _add_card(commands: Any, add_command: AddCommand) -> None:
    parser = add_command(
        commands,
        "card",
        _card,
        "print the model card of a checkpoint",
        """Print the model card that `uranet push` would upload.""",
        "uranet card runs/ring",
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="folder or name")
    parser.add_argument("--to", metavar="NAMESPACE/NAME", help="repository that the card names")
    parser.add_argument("--license", metavar="ID", help="of the weights; default: that of the dataset in the name")


def _add_export(commands: Any, add_command: AddCommand) -> None:
    parser = add_command(
        commands,
        "export",
        _export,
        "write a detector as one file for other runtimes",
        f"""Write a detector as ONNX (FILE.onnx) or as a program of torch.export (FILE.pt2), for batches of any size.

The file is run and compared with the model before it counts: on images of yours, or on generated textures. `uranet predict
FILE` gives the same verdicts from the file alone. For other runtimes: it takes RGB in [0, 1] of the network's size and
gives raw scores and maps; thresholds and preparation lie beside the graph (docs/deploy.md). ONNX needs more packages: run
{install_command("export")} in a clone of the repository.""",
        "uranet export runs/ring --output ring.onnx --images new/*.png",
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="folder or name")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="ends in .onnx or .pt2")
    parser.add_argument("--images", type=Path, nargs="+", default=[], metavar="IMAGE", help="images to compare on")
    parser.add_argument("--half", action="store_true", help="let the backbone of an .onnx compute in float16")


def _push(options: argparse.Namespace) -> None:
    from ..hub.push import checkpoints_in, push

    if (options.checkpoint is None) == (options.all is None):
        raise UserError("push takes either one CHECKPOINT or --all DIR: give one of them.")
    if options.checkpoint is not None:
        print(push(options.checkpoint, options.to, options.private, license=options.license))
        return
    if "/" in options.to:
        raise UserError(f"with --all, --to must be a NAMESPACE, but got {options.to}: checkpoints keep their names.")
    failures = []
    folders = checkpoints_in(options.all)
    for folder in folders:
        try:
            print(push(folder, f"{options.to}/{folder.name}", options.private, license=options.license), flush=True)
        except UserError as error:
            failures.append(folder.name)
            print(f"uranet: {error}", file=sys.stderr)
    if failures:
        raise UserError(
            f"{len(failures)} of {len(folders)} checkpoints were not uploaded ({', '.join(failures)}): repeat the command."
        )


def _space(options: argparse.Namespace) -> None:
    from ..hub.push import require_repo_id
    from ..hub.space import push_space, write_space

    if options.to is None and options.output is None:
        raise UserError("space takes --to NAMESPACE/NAME, --output DIR, or both: give one of them.")
    if options.output is None:
        print(push_space(options.checkpoint, options.to, options.private, None, options.license, options.examples))
        return
    if options.to is not None:
        require_repo_id(options.to)
    name = options.to.split("/")[-1] if options.to else None
    write_space(options.checkpoint, options.output, name, options.license, options.examples)
    print(f"{options.output}: open the page with `python {options.output / 'app.py'}`; nothing was uploaded.")


def _list(options: argparse.Namespace) -> None:
    from ..hub.listing import here, on_the_hub, to_make

    entries, note = here(), ""
    if not options.offline:
        try:
            entries += on_the_hub()
        except UserError as error:
            note = str(error)
    width = max((len(entry.name) for entry in entries), default=0) + 2
    terms = max((len(entry.license or "") for entry in entries), default=0) + 2
    print("name".ljust(width) + "place".ljust(9) + "licence".ljust(terms) + "image AUROC  pixel AUROC    AUPRO")
    for entry in entries:
        figures = ["-" if v is None else f"{v:.4f}" for v in (entry.image_auroc, entry.pixel_auroc, entry.aupro)]
        start = entry.name.ljust(width) + entry.place.ljust(9) + (entry.license or "-").ljust(terms)
        print(start + f"{figures[0]:>11}  {figures[1]:>11}  {figures[2]:>7}")
    for names, command in to_make(entries):
        print(f"not here: {names}; made by `{command}`")
    if note:
        print(note, file=sys.stderr)


def _card(options: argparse.Namespace) -> None:
    from ..hub.card import make_card
    from ..hub.download import FILES, checkpoint_folder
    from ..model.loading import require_files

    folder = checkpoint_folder(options.checkpoint)
    require_files(folder, FILES)
    print(make_card(folder, options.to or folder.resolve().name, options.license))


def _export(options: argparse.Namespace) -> None:
    from ..export import export
    from ..model.configuration_uranet import URANetConfig

    differences = export(options.checkpoint, options.output, options.images, options.half)
    worst = max(differences, key=lambda name: differences[name])
    on = f"{len(options.images)} image(s)" if options.images else "generated textures"
    says = (
        f"differs from the model by at most {differences[worst]:.1g} ({worst})"
        if differences[worst]
        else "gives what the model gives"
    )
    print(f"{options.output}: {options.output.stat().st_size / 1e6:.1f} MB; on {on} it {says}.")
    if URANetConfig.from_pretrained(options.checkpoint).image_threshold is None:
        print("uranet: the checkpoint has no calibrated thresholds, so the file has none either.", file=sys.stderr)
