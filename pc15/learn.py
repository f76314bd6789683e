"""`pc15.learn` is `pc15learn`, the toolkit that trains the encoder's hooks: one module under two names.

Its submodules are imported from `pc15learn`.
"""

from __future__ import annotations

import sys

import pc15learn

sys.modules[__name__] = pc15learn
