"""The screening kernel for GPUs, in Triton: reads each product once and leaves one key per group of candidates."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from pc15.search.screen import GROUP

_GROUPS = 16  # groups that one program instance reduces


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
    score = (value * value) * norm - tl.load(price + row) * cost
    raw = score.to(tl.int32, bitcast=True)
    ordered = tl.where(raw < 0, raw ^ 0x7FFFFFFF, raw).to(tl.int64)
    key = (ordered << 20) + ((1 << 20) - 1 - (first + at))
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
