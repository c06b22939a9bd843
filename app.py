"""Open the page: `python app.py --checkpoint DIR`."""

from __future__ import annotations

import argparse
import sys

from ura_hf.demo.page import build_demo, launch_options
from ura_hf.hub import load_detector


def main() -> int:
    """Parse the arguments, build the demo and launch it; 0 when it is stopped, 2 with one sentence when it cannot start."""
    parser = argparse.ArgumentParser(description="Open the URA-Net page for one trained checkpoint.")
    parser.add_argument("--checkpoint", required=True, metavar="DIR", help="folder that `uranet train` wrote")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: %(default)s, this machine only)"
    )
    parser.add_argument("--port", type=int, default=7860, help="port to listen on (default: %(default)s)")
    arguments = parser.parse_args()
    try:
        detector = load_detector(arguments.checkpoint)
        build_demo(detector).launch(server_name=arguments.host, server_port=arguments.port, **launch_options())
    except (ValueError, OSError) as error:
        print(f"app.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
