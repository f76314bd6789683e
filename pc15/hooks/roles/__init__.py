"""The learned roles, a file each: the net, and the predictor that the encoder asks.

A role is one line of `ROLES`; docs/adding-a-net.md adds one.
"""

from __future__ import annotations

from pc15.hooks.roles.params import ParamPredictor
from pc15.hooks.roles.rd import RdPredictor
from pc15.hooks.roles.selector import Selector
from pc15.hooks.roles.squares import SquareGuide
from pc15.hooks.weights import Predictor

__all__ = ["ROLES", "ParamPredictor", "RdPredictor", "Selector", "SquareGuide"]

ROLES: dict[str, type[Predictor]] = {
    "selector": Selector,
    "params": ParamPredictor,
    "rd": RdPredictor,
    "squares": SquareGuide,
}
"""Predictor of every role, by the name that cards and configs use."""
