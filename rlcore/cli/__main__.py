"""`python -m rlcore.cli` is `run-agent`."""

import sys

from rlcore.cli import main

if __name__ == "__main__":
    sys.exit(main())
