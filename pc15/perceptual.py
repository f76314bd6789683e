"""Quality as eyes are modelled to see it, by torchmetrics: visual information fidelity, which needs no weights.

For reports only; comes with the extra `bench`.
Source: H. Sheikh, A. Bovik, "Image information and visual quality", IEEE TIP 2006; in pixels, over four scales.
"""

from __future__ import annotations

import numpy as np

from pc15.errors import ImageError
from pc15.extras import needed_for
from pc15.metrics import Picture, Score, pair

__all__ = ["VIF_SIDE", "vif", "vif_is_there"]

VIF_SIDE = 41
"""Least side that four scales of 17 to 3 px take."""


def vif(reference: Picture, other: Picture, data_range: float = 1.0) -> Score:
    """Visual information fidelity of a picture: 1.0 if it is the reference, 0 if nothing of that is left.

    Args:
        reference, other: [H,W], [C,H,W] or [1,C,H,W], at least 41 pixels high and wide; channels are averaged.
        data_range: peak to peak.
    Raises:
        ImageError: as for psnr, or the picture is smaller than that.
        MissingExtraError: torchmetrics is not installed.
    """
    vif_is_there()  # first, as its extra holds torch's
    import torch
    from torchmetrics.functional.image import visual_information_fidelity

    x, y = pair(reference, other, data_range)
    if min(x.shape[-2:]) < VIF_SIDE:
        raise ImageError(f"vif needs {VIF_SIDE} pixels a side, not {x.shape[-1]}x{x.shape[-2]}; use psnr or ssim")
    scale = 255.0 / data_range  # its model of noise is of 0..255
    # It sees no constant that both have in common; without the mean, single precision is good to 1e-5, in a tenth of
    # double's time.
    x, y = (own * scale - x.mean() * scale for own in (x, y))
    target, preds = (torch.from_numpy(own.astype(np.float32))[:, None] for own in (x, y))  # [C,1,H,W]
    return Score(visual_information_fidelity(preds, target))


def vif_is_there() -> None:
    """Refuse to begin what will want `vif`.

    Raises:
        MissingExtraError: torchmetrics is not installed.
    """
    with needed_for("visual information fidelity"):
        import torchmetrics.functional.image  # noqa: F401
