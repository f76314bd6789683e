"""`python -m pc15.cli`."""

import sys

from pc15.cli import main

sys.exit(main())
