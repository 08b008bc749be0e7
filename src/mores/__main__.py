"""`python -m mores` is the command `mores`."""

import sys

from mores.cli import main

sys.exit(main())
