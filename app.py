"""Open the page: `python app.py`, or `python app.py --checkpoint DIR` for a detector of your own."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ura_hf.demo.page import build_demo, launch_options
from ura_hf.demo.store import Detectors

DEFAULT = "uranet-demo-ring"


def main() -> int:
    """Parse the arguments, build the demo and launch it; 0 when it is stopped, 2 with one sentence when it cannot start."""
    parser = argparse.ArgumentParser(description="Open the URA-Net page for one trained checkpoint.")
    parser.add_argument(
        "--checkpoint",
        default=DEFAULT,
        metavar="DIR",
        help="folder that `uranet train` wrote, or a bundled name (default: %(default)s)",
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: %(default)s, this machine only)"
    )
    parser.add_argument("--port", type=int, default=7860, help="port to listen on (default: %(default)s)")
    parser.add_argument("--open", action="store_true", help="open the page in the browser")
    arguments = parser.parse_args()
    if not 0 < arguments.port < 65536:
        parser.error(f"--port must be from 1 to 65535, but got {arguments.port}")
    try:
        store, start = Detectors(), arguments.checkpoint
        if Path(start).is_dir():
            start = store.add(Path(start), Path(start).resolve().name)
        store.get(start)
        demo = build_demo(store, start)
        demo.launch(
            server_name=arguments.host, server_port=arguments.port, inbrowser=arguments.open, **launch_options()
        )
    except (ValueError, OSError) as error:
        taken = "empty port" in str(error)
        message = f"port {arguments.port} is taken: stop what runs there, or pass another --port" if taken else error
        print(f"app.py: {message}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
