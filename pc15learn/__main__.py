"""`python -m pc15learn`."""

import sys

from pc15learn.cli import main

sys.exit(main())
