"""What the search runs on a GPU as single kernels, in Triton: screening, ranking again, exact scores, distortion.

Each does what loops in `kernels.py` do on a CPU and tensor operations in `score.py` and `screen.py` anywhere, with
the same result to the last bit: sums are of integers, in integers; all else is elementwise in the same sequence, and
no kernel may contract a product and a sum into one rounding.  Numbers that float32 cannot hold come in a tensor,
since Triton hands over an argument that is a Python float as float32.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from pc15.search.screen import GROUP

_GROUPS = 16  # groups that one program instance reduces
_LANES = 128  # threads of a program instance: each has one SSIM block of one candidate
_RUN = 8  # neighbouring pixels that a thread reads at once

# ---------------------------------------------------------------- screening


@triton.jit
def _key(score, row):  # type: ignore[no-untyped-def]
    """`screen.score_keys`."""
    raw = score.to(tl.int32, bitcast=True)
    ordered = tl.where(raw < 0, raw ^ 0x7FFFFFFF, raw).to(tl.int64)
    return (ordered << 20) + ((1 << 20) - 1 - row)


@triton.jit
def _reduce(  # type: ignore[no-untyped-def]
    product, product_stride, inverse, inverse_stride, cls, price, bits, first, count, groups, out,
    GROUP: tl.constexpr, GROUPS: tl.constexpr,
):  # type: ignore[no-untyped-def] # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    group = tl.program_id(1) * GROUPS + tl.arange(0, GROUPS)
    at = group[:, None] * GROUP + tl.arange(0, GROUP)[None, :]
    inside = at < count
    value = tl.load(product + row * product_stride + at, mask=inside, other=0).to(tl.float32)
    norm = tl.load(inverse + tl.load(cls + row) * inverse_stride + first + at, mask=inside, other=0.0)
    cost = tl.load(bits + first + at, mask=inside, other=0.0)
    key = _key((value * value) * norm - tl.load(price + row) * cost, first + at)
    key = tl.where(inside, key, -(1 << 62))
    tl.store(out + row * groups + group, tl.max(key, axis=1), mask=group < groups)


def group_best(product: Tensor, inverse: Tensor, cls: Tensor, price: Tensor, bits: Tensor, first: int) -> Tensor:
    """Key of the best of every GROUP candidates, [m,B/GROUP] int64; see `screen.Best` for the arguments."""
    m, count = product.shape
    groups = -(-count // GROUP)
    out = torch.empty((m, groups), dtype=torch.int64, device=product.device)
    _reduce[(m, triton.cdiv(groups, _GROUPS))](
        product, product.stride(0), inverse, inverse.stride(0), cls, price, bits, first, count, groups, out,
        GROUP=GROUP, GROUPS=_GROUPS, enable_fp_fusion=False,
    )  # fmt: skip
    return out


@triton.jit(do_not_specialize=["total", "m"])
def _rank(  # type: ignore[no-untyped-def]
    candidates, packed, pixels, quad, cls, price, bits, total, m, out,
    LENGTH: tl.constexpr, PAIRS: tl.constexpr, SPAN: tl.constexpr,
):  # type: ignore[no-untyped-def] # fmt: skip
    pair = tl.program_id(0) * PAIRS + tl.arange(0, PAIRS)
    inside = pair < total
    row = tl.load(candidates + pair, mask=inside, other=-1)
    usable = row >= 0
    tile = (pair // m).to(tl.int64)
    place = tl.load(cls + tile, mask=inside, other=0)
    products = tl.zeros([PAIRS, SPAN], tl.int32)
    norms = tl.zeros([PAIRS, SPAN], tl.int64)
    for start in range(0, LENGTH, SPAN):
        at = (start + tl.arange(0, SPAN))[None, :]
        mask = usable[:, None] & (at < LENGTH)
        d = tl.load(pixels + row[:, None] * LENGTH + at, mask=mask, other=0).to(tl.int32)
        products += d * tl.load(packed + tile[:, None] * LENGTH + at, mask=mask, other=0).to(tl.int32)
        norms += (d * d).to(tl.int64) * tl.load(quad + place[:, None] * LENGTH + at, mask=mask, other=0)
    value = tl.sum(products, axis=1).to(tl.float32)
    norm = tl.sum(norms, axis=1)
    usable = usable & (norm > 0)
    inverse = (1.0 / tl.where(usable, norm, 1).to(tl.float64)).to(tl.float32)
    pay = tl.load(price + tile, mask=inside, other=0.0)
    score = (value * value) * inverse - pay * tl.load(bits + row, mask=usable, other=0.0)
    tl.store(out + pair, tl.where(usable, _key(score, row), -(1 << 62)), mask=inside)


def rank_again(
    candidates: Tensor, packed: Tensor, pixels: Tensor, quad: Tensor, cls: Tensor, price: Tensor, bits: Tensor
) -> Tensor:
    """Keys of `kernels.rank_again`'s scores, [n,M] int64, as `screen.score_keys` has them; see there for arguments."""
    n, m = candidates.shape
    out = torch.empty((n, m), dtype=torch.int64, device=packed.device)
    length = packed.shape[1]
    span = min(_LANES, triton.next_power_of_2(length))
    pairs = _LANES * _RUN // span
    if out.numel():
        _rank[(triton.cdiv(out.numel(), pairs),)](
            candidates.contiguous(), packed, pixels, quad, cls, price, bits, out.numel(), m, out,
            LENGTH=length, PAIRS=pairs, SPAN=span, enable_fp_fusion=False,
        )  # fmt: skip
    return out
