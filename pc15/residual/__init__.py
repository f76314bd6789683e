"""The sparse residual: what a picture's program leaves over, as quantized transform coefficients.

    code = encode_residual(picture - prediction, prediction, ResidualParams(step=18))     # [h,w] int32 Q12 planes
    picture = decode_residual(code.payload, prediction, 18)                               # == code.reconstruction

A plane is cut into superblocks of 64x64, each into a quadtree of square blocks from 64 down to 4.  A block is predicted
from the residual decoded around it (`intra`), or not at all; what is left goes through an integer DCT (`transform`)
and a uniform quantizer, and its levels through adaptive, mixed binary models (`syntax`, `models`) into one rANS
stream.  The sum of prediction and residual is deblocked (`filter`).  The decoder is integer-only.

    models, start      counters, mixing, rANS; where they start (trained by `train`, packaged in v15_default.npz)
    syntax             which decisions are made in which order, and their contexts: one walk for writing and reading
    intra, transform, reconstruct, filter     levels -> picture
    screen, search     the encoder's choices: predictions worth a try, then everything
    codec              the public functions
"""

from pc15.residual.codec import (
    STEPS,
    ResidualCode,
    ResidualParams,
    decode_flat,
    decode_residual,
    encode_residual,
    lambda_for,
    residual_bits,
    step_q4,
)

__all__ = [
    "STEPS",
    "ResidualCode",
    "ResidualParams",
    "decode_flat",
    "decode_residual",
    "encode_residual",
    "lambda_for",
    "residual_bits",
    "step_q4",
]
