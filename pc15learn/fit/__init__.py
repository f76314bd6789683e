"""A fit of one net: labels -> checkpoints/<name>/last.ckpt and best.ckpt, by one process or several."""

from __future__ import annotations

from pc15learn.fit.run import Fitted, fit_role, trainings
from pc15learn.fit.stopping import FitStopped

__all__ = ["FitStopped", "Fitted", "fit_role", "trainings"]
