"""`python -m ura_hf` is the command `uranet`."""

import sys

from .cli.main import main

if __name__ == "__main__":
    sys.exit(main())
