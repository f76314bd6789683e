"""`python -m pc15`."""

import sys

from pc15.cli import main

sys.exit(main())
