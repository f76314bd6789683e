"""`score_rd_numpy`: the cost that the encoder minimises, D + lambda * R, in plain float64 numpy.

What `pc15.search.score` computes from integer moments, written out as its definition, so that a reader, a label or a
test can check one number:

    D = alpha * (1 - SSIM) + (1 - alpha) * MSE_SCALE * MSE,    R = bits / pixels that the tile owns

SSIM is Wang's on disjoint blocks of about 8 px, without the Gaussian window: Z. Wang et al., IEEE TIP 13 (2004).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pc15.errors import ConfigError, ImageError
from pc15.quant import MSE_SCALE
from pc15.search.windows import ssim_block

__all__ = ["score_rd_numpy"]

Floats = npt.NDArray[np.float64]

_C1, _C2 = 0.01**2, 0.03**2


def score_rd_numpy(
    y: npt.ArrayLike,
    y_hat: npt.ArrayLike,
    bits: npt.ArrayLike,
    *,
    lambda_rd: float = 0.015,
    alpha_mix: float = 0.7,
    weights: npt.ArrayLike | None = None,
    seam: npt.ArrayLike | None = None,
) -> float | Floats:
    """D + lambda * R of one tile, or of each of N.

    Args:
        y, y_hat: [T,T] or [N,T,T] luma in [0,1]: the picture, and what is shown in its place.
        bits: what each tile costs; one number, or [N].
        weights: [T,T] or [N,T,T], the share of the blended picture that the tile owns at each pixel, in [0,1]; errors
            and SSIM blocks count in proportion, and the shares' sum is the area of R.  None: the whole tile.
        seam: [T,T], how much more squared errors count at each pixel, 0 for nothing more, as `seam_penalty_mask`
            times a factor.
    Returns:
        A float for one tile, [N] float64 for several.
    Raises:
        ImageError: shapes that do not fit, values that are not finite, or a tile that owns no pixel.
        ConfigError: a negative lambda, or alpha outside [0,1].
    """
    if not lambda_rd >= 0.0 or not 0.0 <= alpha_mix <= 1.0:
        raise ConfigError(f"lambda_rd is {lambda_rd} and alpha_mix {alpha_mix}; give lambda >= 0 and alpha in [0,1]")
    a, b = _tiles(y, "y"), _tiles(y_hat, "y_hat")
    if a.shape != b.shape:
        raise ImageError(f"y has shape {list(np.shape(y))}, y_hat {list(np.shape(y_hat))}; give two of one shape")
    own = np.ones_like(a) if weights is None else _like(_tiles(weights, "weights"), a, "weights")
    more = np.zeros_like(a) if seam is None else _like(_tiles(seam, "seam"), a, "seam")
    area = own.sum(axis=(1, 2))  # [N]
    if not (area > 0.0).all():
        raise ImageError(f"tile {int(area.argmin())} owns no pixel: its weights sum to {area.min():g}")
    mse = (own * (1.0 + more) * (a - b) ** 2).sum(axis=(1, 2)) / area
    dissimilar = (_block_sums(own) * (1.0 - _block_ssim(a, b))).sum(axis=1) / area
    D = alpha_mix * dissimilar + (1.0 - alpha_mix) * MSE_SCALE * mse
    rd = D + lambda_rd * np.asarray(bits, dtype=np.float64) / area
    return float(rd[0]) if np.ndim(y) == 2 else rd


def _block_sums(values: Floats) -> Floats:
    """[N,T,T] summed over the disjoint SSIM blocks -> [N, blocks]."""
    n, tile = values.shape[0], values.shape[2]
    side = ssim_block(tile)
    sums: Floats = values.reshape(n, tile // side, side, tile // side, side).sum(axis=(2, 4)).reshape(n, -1)
    return sums


def _block_ssim(a: Floats, b: Floats) -> Floats:
    """SSIM of each block, [N, blocks]."""
    count = ssim_block(a.shape[2]) ** 2
    mean_a, mean_b, aa, bb, ab = (_block_sums(v) / count for v in (a, b, a * a, b * b, a * b))
    luminance = (2.0 * mean_a * mean_b + _C1) / (mean_a**2 + mean_b**2 + _C1)
    variances = aa - mean_a**2 + bb - mean_b**2
    structure: Floats = (2.0 * (ab - mean_a * mean_b) + _C2) / (variances + _C2)
    return luminance * structure


def _tiles(values: npt.ArrayLike, name: str) -> Floats:
    """[T,T] or [N,T,T] -> [N,T,T] float64, checked."""
    tiles = np.asarray(values, dtype=np.float64)
    if tiles.ndim not in (2, 3) or tiles.shape[-1] != tiles.shape[-2] or tiles.size == 0:
        raise ImageError(f"{name} has shape {list(tiles.shape)}; give square tiles, [T,T] or [N,T,T]")
    if not np.isfinite(tiles).all():
        raise ImageError(f"{name} holds {int((~np.isfinite(tiles)).sum())} values that are not finite")
    return tiles if tiles.ndim == 3 else tiles[None]


def _like(values: Floats, tiles: Floats, name: str) -> Floats:
    """One map for every tile, or one each."""
    if values.shape[1:] != tiles.shape[1:] or values.shape[0] not in (1, tiles.shape[0]):
        raise ImageError(
            f"{name} has shape {list(values.shape)} for tiles of {list(tiles.shape)}; give one each, or one"
        )
    return np.broadcast_to(values, tiles.shape)
