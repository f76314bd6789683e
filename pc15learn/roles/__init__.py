"""Training of each net, a file each: its targets and its LightningModule.

A role is one line of `TRAINING`; docs/adding-a-net.md adds one.
"""

from __future__ import annotations

from pc15learn.roles.base import RoleModule
from pc15learn.roles.params import ParamModule
from pc15learn.roles.rd import RdModule
from pc15learn.roles.selector import SelectorModule
from pc15learn.roles.squares import SquaresModule

__all__ = ["TRAINING"]

TRAINING: dict[str, type[RoleModule]] = {
    "selector": SelectorModule,
    "params": ParamModule,
    "rd": RdModule,
    "squares": SquaresModule,
}
"""Training of every role of `pc15.hooks.roles.ROLES`."""
