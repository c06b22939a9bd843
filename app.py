"""Open the page: `python app.py`, or `python app.py --checkpoint DIR` for a detector of your own. Also the app of the Space."""

from __future__ import annotations

import argparse
import gc
import os
import signal
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from ura_hf.data.threads import wait_briefly

SOLAR, DRAWN = "uranet-elpv-mono", "uranet-demo-ring"
LOOPBACK = "127.0.0.1", "localhost", "::1"
MAX_PIXELS = 25_000_000
"""Largest image [pixels] that the page reads: decoding one takes about 30 bytes a pixel of the server's memory."""


def main() -> int:
    """Parse the arguments, build the demo and launch it; 0 when it is stopped, 2 with one sentence when it cannot start."""
    wait_briefly()
    arguments = parse_arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that temporary files are removed then, too
    try:
        with tempfile.TemporaryDirectory(prefix="uranet-page-") as uploads:
            os.environ.setdefault("GRADIO_TEMP_DIR", uploads)
            serve(arguments)
    except KeyboardInterrupt:
        return 0
    except (ValueError, OSError) as error:
        taken = "empty port" in str(error)
        message = f"port {arguments.port} is taken: stop what runs there, or pass another --port" if taken else error
        print(f"app.py: {message}", file=sys.stderr)
        return 2
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Open the URA-Net page.")
    parser.add_argument(
        "--checkpoint",
        default=SOLAR if find_spec("elpv_dataset") else DRAWN,
        metavar="DIR",
        help="folder that `uranet train` wrote, or a name, to begin with (default: %(default)s)",
    )
    parser.add_argument("--examples", type=Path, metavar="DIR", help="folder of photos to try the checkpoint with")
    parser.add_argument(
        "--host",
        default=os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1"),
        help="address to listen on (default: %(default)s)",
    )
    parser.add_argument(
        "--port",
        type=int,
        default=int(os.environ.get("GRADIO_SERVER_PORT", 7860)),
        help="port to listen on (default: %(default)s)",
    )
    parser.add_argument("--open", action="store_true", help="open the page in the browser")
    parser.add_argument(
        "--public",
        action="store_true",
        help="visitors are strangers to each other: always so on a Space, with GRADIO_SHARE=True, and if --host lets other "
        "machines open the page; say it if a reverse proxy does. The page then uses no Hugging Face token, bounds what fills "
        "its disk, and keeps a taught checkpoint for its visitor alone, for an hour",
    )
    parser.add_argument(
        "--shared",
        action="store_true",
        help="on a public page: all visitors use what one of them taught, until the page stops",
    )
    arguments = parser.parse_args()
    if not 0 < arguments.port < 65536:
        parser.error(f"--port must be from 1 to 65535, but got {arguments.port}")
    return arguments


def is_public(host: str) -> bool:
    """Whether visitors may be strangers to each other: on a Space, with Gradio's public link, or at an address of the network."""
    return "SPACE_ID" in os.environ or wants_link() or host not in LOOPBACK


def wants_link() -> bool:
    """Whether Gradio is to make a public link."""
    return os.environ.get("GRADIO_SHARE", "").lower() == "true"


def serve(arguments: argparse.Namespace) -> None:
    """Open the page with a checkpoint, by folder or name, and stay until it is stopped."""
    gc.disable()  # nearly all that is imported stays, so looking through it again and again is for nothing
    from ura_hf.data.extras import needs_extra
    from ura_hf.demo.examples import draw_early, give_examples
    from ura_hf.demo.store import Detectors
    from ura_hf.model import image_checks

    checkpoint = arguments.checkpoint
    image_checks.MAX_PIXELS = MAX_PIXELS
    store = Detectors(public=arguments.public or is_public(arguments.host), shared=arguments.shared)
    if Path(checkpoint).is_dir():
        checkpoint = store.add(Path(checkpoint), Path(checkpoint).resolve().name)
    if arguments.examples:
        give_examples(checkpoint, arguments.examples)
    draw_early(checkpoint)
    store.get(checkpoint)
    with needs_extra("demo", "the page"):
        from ura_hf.demo.page import build_demo, launch_options  # Gradio's import leaves a core to the drawing

    demo = build_demo(store, checkpoint)
    gc.freeze()
    gc.enable()
    where = {"server_name": arguments.host, "server_port": arguments.port, "inbrowser": arguments.open}
    where["share"] = wants_link()  # else Gradio makes one on Kaggle and SageMaker without being asked
    demo.launch(**where, **launch_options(), quiet=True, prevent_thread_lock=True)  # Gradio would offer a public link
    if failed := getattr(demo, "mcp_error", None):
        print(failed, file=sys.stderr)
    print(f"The page: {demo.local_url} (Ctrl+C stops it)", flush=True)
    demo.block_thread()


if __name__ == "__main__":
    sys.exit(main())
