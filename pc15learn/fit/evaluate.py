"""Validation of nets that were fitted elsewhere: what their losses are on one set, to be compared."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path

from pc15.errors import HooksError
from pc15learn.fit.run import trainings

__all__ = ["evaluate_checkpoint"]


def evaluate_checkpoint(
    ckpt: str | Path,
    labels: str | Path,
    *,
    online: bool = False,
    lambdas: Sequence[float] = (4.0, 2.0, 1.0, 0.5, 0.25),
    batch_size: int = 1024,
    device: str = "auto",
) -> dict[str, float]:
    """The val metrics of a checkpoint's net on the val split of a set, its own or another.

    Args:
        ckpt: a last.ckpt or best.ckpt of `pc15learn fit`.
        labels: folder of labels or of features; with `online`, of photographs, searched at `lambdas`.
        batch_size: rows at a time: losses weigh a row by what it gains beside the others of its batch, so they compare
            at one size.   device: "auto", "cpu" or "cuda".
    Raises:
        HooksError: no checkpoint of ours, or its net chooses among other candidates than the labels do.
        SchemaError: labels that are missing or do not follow the schema.
        MissingExtraError: Lightning is not installed.
    """
    kinds = trainings()
    from lightning.pytorch import Trainer

    from pc15.runtime.device import resolve_device
    from pc15learn.fit.checkpoints import read_checkpoint

    stored = read_checkpoint(Path(ckpt))
    facts, train = stored["pc15"], stored["pc15_run"]["train"]
    kind = kinds[facts["role"]]
    data = kind.data(labels, batch_size=batch_size, online=online, lambdas=tuple(lambdas), device=device)
    if data.codec != facts["codec"]:
        raise HooksError(
            f"{ckpt} was fitted to other generators or another codebook than {labels} has; fit or label again"
        )
    data.setup()
    module = kind(**data.made_of, hidden=int(facts["hidden"]), temperature=float(train["temperature"]))
    module.load_state_dict(stored["state_dict"])
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")
        trainer = Trainer(
            accelerator={"cpu": "cpu", "cuda": "gpu"}[resolve_device(device).type], devices=1, deterministic=True,
            logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        found = trainer.validate(module, data.val_dataloader(), verbose=False)
    return {name: float(value) for name, value in found[0].items()}
