"""Previews: pictures side by side with their names, and one sheet of every generator.

Everything is uint8 on the CPU, [H,W] grey or [3,H,W] colour; nothing that codes or decodes needs it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from pc15.errors import ConfigError, ImageError
from pc15.proc.registry import list_generators, render

__all__ = ["generator_sheet", "montage"]

_GAP_PX = 6
_PAPER = 255
_INK = 0


def montage(images: Sequence[Tensor], labels: Sequence[str] | None = None, columns: int = 4) -> Tensor:
    """Lay pictures out in rows, each above its label.

    A cell is as large as the largest picture and the widest label, so that nothing is cut or scaled.

    Args:
        images: uint8 [H,W] or [3,H,W], of any sizes.
        labels: one per picture, or None for bare pictures.
        columns: pictures per row.
    Returns:
        uint8 [H,W] if every picture is grey, otherwise [3,H,W].
    Raises:
        ConfigError: no pictures, no columns, or not one label per picture.
        ImageError: a tensor that is not a uint8 picture.
    """
    if not images or columns < 1:
        raise ConfigError(f"montage needs pictures and columns of at least 1, got {len(images)} and {columns}")
    if labels is not None and len(labels) != len(images):
        raise ConfigError(f"montage got {len(labels)} labels for {len(images)} pictures; give one each, or None")
    pictures = [_to_pil(image, i) for i, image in enumerate(images)]
    grey = all(picture.mode == "L" for picture in pictures)
    texts = list(labels or [])
    font = ImageFont.load_default()
    boxes = [font.getbbox(text) for text in texts]
    text_px = max((int(box[3]) for box in boxes), default=0)
    cell_w = max([p.width for p in pictures] + [int(box[2]) for box in boxes]) + _GAP_PX
    picture_px = max(p.height for p in pictures)
    cell_h = picture_px + _GAP_PX + (text_px + 2 if texts else 0)

    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    mode, paper, ink = ("L", _PAPER, _INK) if grey else ("RGB", (_PAPER,) * 3, (_INK,) * 3)
    sheet = Image.new(mode, (columns * cell_w + _GAP_PX, rows * cell_h + _GAP_PX), paper)
    pen = ImageDraw.Draw(sheet)
    for i, picture in enumerate(pictures):
        x, y = _GAP_PX + i % columns * cell_w, _GAP_PX + i // columns * cell_h
        sheet.paste(picture, (x, y))
        if texts:
            pen.text((x, y + picture_px + 1), texts[i], fill=ink, font=font)
    pixels = torch.from_numpy(np.array(sheet))
    return pixels if grey else pixels.permute(2, 0, 1).contiguous()


def generator_sheet(size: int = 96, columns: int = 8) -> Tensor:
    """Every generator at its defaults, labelled; uint8 [H,W], mid grey where a pattern is 0."""
    names = list_generators()
    drawn = [render(name, size, size)[0, 0] for name in names]
    return montage([(v * 127 + 128).round().to(torch.uint8) for v in drawn], names, columns)


def _to_pil(image: Tensor, index: int) -> Image.Image:
    colour = image.ndim == 3 and image.shape[0] == 3
    if image.dtype != torch.uint8 or not (colour or image.ndim == 2) or not image.numel():
        raise ImageError(f"picture {index} is {image.dtype} {list(image.shape)}; montage takes uint8 [H,W] or [3,H,W]")
    pixels = image.cpu().permute(1, 2, 0) if colour else image.cpu()
    return Image.fromarray(pixels.contiguous().numpy())
