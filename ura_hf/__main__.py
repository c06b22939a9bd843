"""`python -m ura_hf` is the command `uranet`."""

import sys


def run() -> int:
    """`cli.main.main`; Ctrl+C ends with a sentence also what is still being imported."""
    try:
        from .cli.main import main

        return main()
    except KeyboardInterrupt:
        print("uranet: interrupted.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(run())
