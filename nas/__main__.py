"""``python -m nas``, as ``torchrun -m nas train ...`` starts it."""

import sys

from nas.cli import main

if __name__ == "__main__":
    sys.exit(main())
