"""PC15: an image codec whose streams are programs of procedural patterns.

    from pc15 import CodecConfig, decode_y, encode_y
    enc = encode_y(y, CodecConfig.preset("balanced", lambda_rd=0.05))     # y: [1,1,H,W] in [0,1]
    y_hat = decode_y(enc["bitstream"])

The names in `__all__` are the public ones.  Each is imported on first use, so that `import pc15` costs nothing and
nothing here loads what only `pc15.learn`, the toolkit `pc15learn`, needs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from pc15._version import __version__ as __version__
from pc15.extras import needed_for
from pc15.runtime.device import calm_threads

if TYPE_CHECKING:
    import pc15learn as learn
    from pc15.bitstream import TileRec, pack_v15, read_bitstream, unpack_v15, write_bitstream
    from pc15.config import CodecConfig
    from pc15.decoder import decode, decode_many, decode_y
    from pc15.encoder import encode, encode_many, encode_y, encode_y_with_hooks
    from pc15.entropy.rans import rans_decode, rans_encode
    from pc15.entropy.tables import build_rans_tables
    from pc15.errors import Pc15Error
    from pc15.grids import TileBatchSpec, TileGridCfg
    from pc15.hooks.heuristic import HeuristicHooks
    from pc15.hooks.learned import AiHooks
    from pc15.hooks.roles import ParamPredictor, RdPredictor, Selector
    from pc15.metrics import psnr, ssim
    from pc15.paths import PathsConfig
    from pc15.proc.registry import list_generators, render
    from pc15.runtime.device import env_summary
    from pc15.search.rd_reference import score_rd_numpy
    from pc15.seed import tile_seed
    from pc15.tiling import blend, seam_penalty_mask, tile_image
    from pc15learn.labels.write import make_labels

calm_threads()  # here, because it works only before torch is loaded

__all__ = [
    "AiHooks",
    "CodecConfig",
    "HeuristicHooks",
    "ParamPredictor",
    "PathsConfig",
    "Pc15Error",
    "RdPredictor",
    "Selector",
    "TileBatchSpec",
    "TileGridCfg",
    "TileRec",
    "blend",
    "build_rans_tables",
    "decode",
    "decode_many",
    "decode_y",
    "encode",
    "encode_many",
    "encode_y",
    "encode_y_with_hooks",
    "env_summary",
    "learn",
    "list_generators",
    "make_labels",
    "pack_v15",
    "psnr",
    "rans_decode",
    "rans_encode",
    "read_bitstream",
    "render",
    "score_rd_numpy",
    "seam_penalty_mask",
    "ssim",
    "tile_image",
    "tile_seed",
    "unpack_v15",
    "write_bitstream",
]

_NAMES_OF = {
    "pc15.bitstream": "TileRec pack_v15 read_bitstream unpack_v15 write_bitstream",
    "pc15.config": "CodecConfig",
    "pc15.decoder": "decode decode_many decode_y",
    "pc15.encoder": "encode encode_many encode_y encode_y_with_hooks",
    "pc15.entropy.rans": "rans_decode rans_encode",
    "pc15.entropy.tables": "build_rans_tables",
    "pc15.errors": "Pc15Error",
    "pc15.grids": "TileBatchSpec TileGridCfg",
    "pc15.hooks.heuristic": "HeuristicHooks",
    "pc15.hooks.learned": "AiHooks",
    "pc15.hooks.roles": "ParamPredictor RdPredictor Selector",
    "pc15.metrics": "psnr ssim",
    "pc15.paths": "PathsConfig",
    "pc15.proc.registry": "list_generators render",
    "pc15.runtime.device": "env_summary",
    "pc15.search.rd_reference": "score_rd_numpy",
    "pc15.seed": "tile_seed",
    "pc15.tiling": "blend seam_penalty_mask tile_image",
    "pc15learn.labels.write": "make_labels",
}
_LIVES_IN = {name: module for module, names in _NAMES_OF.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    """A public name, imported on first use (PEP 562).

    Raises:
        MissingExtraError: it needs a package, such as torch, that is not installed.
    """
    if name == "learn":
        return importlib.import_module("pc15learn")
    if name not in _LIVES_IN:
        raise AttributeError(f"module 'pc15' has no attribute {name!r}")
    with needed_for(f"pc15.{name}"):
        value = getattr(importlib.import_module(_LIVES_IN[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
