"""`python -m mores` is the command `mores`."""

import sys

from mores.cli.commands import main

sys.exit(main())
