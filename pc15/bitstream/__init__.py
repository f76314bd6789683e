"""The PC15 bitstream, version 1, byte by byte; this page is the format.

Numbers of a fixed size are unsigned and big-endian.  A `varint` is LEB128: seven bits per byte, lowest first,
bit 7 set while more follow; at most 5 bytes, and only the shortest form.  Every CRC is CRC-32 as in zlib.
A stream is: header, chunk lengths, chunks; nothing may follow.

Header (18 bytes for a grey picture of up to 16383x16383 with tiles below 128)
------------------------------------------------------------------------------
    magic         4 bytes   "PC15"
    version       1 byte    1
    flags         1 byte    bit 0  color         0 gray: plane Y; 1 YCbCr 4:2:0: planes Y, Cb, Cr
                            bit 1  shared        Cr is coded as Cb: its fields are left out (color 1 only)
                            bit 2  ids           table, codebook id follow; else v15_default, v15_grid
                            bit 3  seed          seed follows; else 1234
                            bit 4  raw           sections are in RAW form (debugging); else rANS
                            bit 5  sections      section_rows follows; else 0
                            bit 6  metadata      the last chunk is metadata
                            bit 7  residual      each plane says whether it has a residual
    width         varint    1 .. 2^20
    height        varint    1 .. 2^20; width * height at most 2^28 unless the reader allows more, or less
    planes, in the order Y, Cb, Cr, for each:
      coarse      1 byte    only if tiles lie upon a coarse grid: 1, and then tile, overlap, fields and window_param of
                            that grid, whose tiles are larger; those of the tiles upon it follow as ever
      tile        varint    4 .. 1024 px; or 0: no tiles, upon middle grey, and the next three fields are left out
      overlap     varint    0 .. tile-1 px
      fields      2 bytes   bits 0-5 amp_step, 6-11 dc_step, 12-13 window (0 hann, 1 tukey, 2 kaiser),
                            14 subsample (0 for Y, 1 for Cb and Cr: half the size, rounded up),
                            15 window_param follows; else the window's default
      window_param 1 byte   if announced, not 0: Tukey alpha in 1/256, Kaiser beta in 1/4; never for hann
      residual    1 byte    if bit 7: 0 none, which a plane without tiles may not say; else 1 + index of its step,
                            1..80, plus 128 if tools follows
      tools       1 byte    if announced, not 0: what codes the residual: bit 0 sine, bit 1 wiener, bit 2 blend,
                            bit 3 trellis, bit 4 patterns (of the codebook v15_squares),
                            bit 5 cross (Cb and Cr only), bit 6 splits, bit 7 borders (not beside cross)
    ids           if announced, table id then codebook id: 1 byte length, 1..32 characters of a-z 0-9 _ -;
                            or 1 byte for a pair that everybody knows: 128 v15_trained, v15_trained; plus 64 if
                            hooks follows, and then also 193 v15_default, v15_grid
    hooks         1 byte    if announced, not 0, and there is no metadata: all that metadata would say, below
    seed          4 bytes   if announced, not 1234
    section_rows  varint    if announced, not 0: tile rows per section; 0: each plane is one section
    CRC           4 bytes   of all bytes before it

A header has one form: a default that is written out is refused, and so are more than 2^24 tiles of all grids.

Sections
--------
Along an axis of length L, tiles of size T and stride S = T - overlap start at 0, S, 2S, ... while that is
before L - T, and then at L - T; an axis with L <= T has one tile.  The tile rows of each grid are cut into
sections of section_rows (the last one may have fewer); sections go plane by plane, a coarse grid before the one
upon it, from the top.  Their number follows from the header.  A plane without tiles has none.

The residual of each plane that has one is cut likewise, into sections of pixel rows: section_rows * S rows, S not
that of a coarse grid (* 64 for a plane without tiles), rounded up to a multiple of 64; the whole plane if section_rows
is 0.

Chunk lengths
-------------
One varint per chunk: the sections in order, then those of the residual, then the metadata if announced.  The
lengths have no CRC of their own: each is covered by its chunk's.

Chunks
------
    payload       as many bytes as its length says
    CRC           4 bytes: of chunk index (4 bytes), payload length (8 bytes), payload, continued from the
                  header's CRC as starting value; the index counts from 0, in the order above

A section's CRC thus fails when the section is damaged, moved, cut, or from another stream; the other sections
stay good.

Metadata
--------
At most 65536 bytes of UTF-8: one JSON object in canonical form (keys sorted, no spaces, no escapes that are
not needed, no NaN).  Nothing in it changes a pixel: a decoder may skip it.

The header's byte of hooks stands for the one key ai with a value of these: 1 {"name":"heuristic"} -
2 {"name":"baseline","sha256":"cd0c"} - 3 {"name":"baseline","sha256":"658c"}; a larger number n, of a later encoder,
for {"hooks":n}.

In a chunk, with the one key ai, every occurrence of these phrases is written as one byte, in this order:
1 {"ai":{"name":" - 2 ","norm":" - 3 ","sha256":" - 4 ","version":" - 5 "}} - 6 baseline - 7 heuristic -
8 -selector - 9 -params - 10 -rd.

Symbols of a section
--------------------
A rANS stream as in `pc15/entropy/rans.py` (RAW: each symbol as 2 bytes, lowest first), one table per symbol, in the
order of `code_section` in `pc15/bitstream/sections.py`.  Table names start with a family, s for tiles up to 24 px, m up
to 48, l above, c for chroma, and where it matters a rate class 0..4 from amp_step.

    merge mode                   merge.mode, in sections of more than one tile: 0 if no layer is merged, 1, 2, 3 by
                                 how many are
    for each tile row:
      DC residual of each tile   <family><rate>.dc.<how steep the row above is, 0..2>: zigzag of the level less its
                                 prediction from left, above and above-left; 47 escapes to two raw symbols
    for layer 0, 1, .. 15, over the tiles that have all layers before it:
      more                       <family><rate>.more.<layer, at most 3>.<c>: 1 if the tile has this layer; c is the
                                 number of its four neighbours that have the layer before, or for layer 0 a class
                                 0..4 of how much its DC differs from theirs
      unless the merge mode m is 0:
        merged                   merge.is.<m>, of all that have the layer: 1 if it continues a neighbour's
        side                     merge.side.<m>, of those that do: 0 left, 1 top, 2 top left, 3 top right; never of
                                 another section
        layer                    merge.layer.<layer, at most 3>: the number of the neighbour's layer, 0..15
        amplitude                merge.amp.<m>: zigzag of |level| less the neighbour's |level|, times 2, plus 1 if the
                                 sign changes; 16 escapes
      over the tiles that have it and are not merged, kind by kind:
      generator                  <family><rate>.gen.<layer, at most 2>
      qv_id                      <family>.qv.<GENERATOR>
      seed index                 seed.<count>, for generators with randomness
      refined                    <family><rate>.refined, or above 32 px fine<f>.refined: 1 if offsets follow
      offsets                    up to 32 px: <family>.offset, one per parameter: level step + 4
                                 above: fine<f>.class, one per parameter, those of large tiles alone included: the bit
                                 length c, at most 14, of the magnitude of its step, in sub-levels; then, for all with
                                 c > 0, c bits, the sign (1 for minus) above the magnitude less 2^(c-1), as digits of
                                 5 bits, table bits.5, the highest digit of what is left of c, table bits.<its bits>;
                                 third digits of all that have one, then second ones, then first ones
      amplitude                  <family><rate>.amp.<layer, at most 3>: 2 * (|level| - 1) + (level < 0); 30 escapes
    an escape is followed, after all symbols of its kind, by the code less the escape: high then low digit of 5 bits,
    table raw

A merged layer has generator, qv_id, seed index and offsets of the layer that it continues, which may be merged itself;
its pattern starts in the first tile of that chain, at most 64 rows and 64 columns of tiles away.

f is the number of bits of T - 1, less 4, for tiles of T > 32 px: a parameter's level is 2^f sub-levels there (1 for
counts), which follow its formula between levels and, up to its `wide` ends, beyond them; an entry's level l is
sub-level l * 2^f.

Samples
-------
step(i) is 2^(-2 - i/6) of full luma in Q15, rounded.  A plane is the surface of `pc15/dc_surface.py` through its tiles'
DC levels, level * step(dc_step), plus the cross-fade of its tiles, within 0..1; a tile is the sum of its layers, each
pattern less its mean, times level * step(amp_step) / RMS of the pattern; a merged one is evaluated where its tile lies
from the one where it starts, less the mean and over the RMS that it has there.

Tiles upon a coarse grid change what that draws: the plane is coarse + fine - middle, within 0..1.  Here coarse and fine
are what the two grids draw as planes of their own; middle is a DC level of the fine grid, half the number of its levels
rounded down, which its first tile is predicted to have: at it a tile without layers changes nothing.

All of it is integer arithmetic: `pc15/draw.py`.  A residual refines that plane, or middle grey:
`pc15/residual/decode.py`.

Residual
--------
A section of a residual is empty, or one rANS stream of binary decisions: two raw bits for the strength of the
deblocking filter, with the tool wiener that filter, then superblocks of 64x64 in raster order, as in
`pc15/residual/tree.py`.  Samples are Q12; `>>` rounds down.

    sine          bit 0: squares of 4x4 with a prediction (a mode other than zero) have the DST-VII of 4 points in both
                  directions in place of the DCT: Q14, row k is 2/3 sin(pi (2k + 1)(x + 1) / 9), rounded
    wiener        bit 1: a filter of the deblocked picture, before it is clamped, follows the deblocking's strength:
      filters     5 raw bits, at most 25: how many; 0 for none, and then nothing more
      classes     for each of 25 classes which filter it has, as raw bits, as many as the largest number allowed needs:
                  the least of filters - 1 and one more than any class before it has; more than that counts as that
      taps        12 per filter, in 1/128: the bit length of the magnitude in unary, at most 7, by adaptive models of
                  their own; the bits below the highest, raw; the sign, raw, 1 for minus
      on          1 per superblock if it is filtered, in raster order, by an adaptive model per number of those to the
                  left and above that are
    blend         bit 2: with left(y), top(x), corner the border of a square of side 2^k, smoothed if the prediction's
                  is, s = (k - 1) >> 1 and w(i) = 32 >> (2i >> s), predictions p become
      planar, mean  p + (w(x) (left(y) - p) + w(y) (top(x) - p) + 32 >> 6)
      horizontal    p + (w(y) (top(x) - corner) + 32 >> 6)
      vertical      p + (w(x) (left(y) - corner) + 32 >> 6)
    patterns      bit 4: of squares of side 8, 16, 32, 64, between mode and coded, up to 4 layers, by adaptive models:
      more        1 if another layer follows, unless there are 4
      entry       number r - 1 of a pattern in the codebook of this side: the bit length of r less 1 in unary, at most
                  9, then the bits of r below its highest; an entry that the codebook lacks is damage
      amount      sign, 1 for minus; magnitude less 1 in unary, at most 14, then an Exp-Golomb rest in raw bits; more
                  than 1023 counts as that
    cross         bit 5: squares of Cb and Cr may be predicted from guides: g, luma at half the size, 4 times the sum of
                  each 2x2 of its 8-bit pixels (odd last rows and columns twice), and for Cr b, 16 times Cb's pixels,
                  all as they were decoded.  Before a square's mode is said if it is from guides (square on the left,
                  above: zero, other, from guides), and if so by which way, 1 per way if it is that one; the last of 4,
                  or for Cr 6, goes without saying:
      0, 1, 2     a line through g by the whole border, its left part, its upper part
      3           lines through g of their own for g up to mean(g) and above; with under 4 samples that of all
      4, 5        a line through b, a plane through g and b
    splits        bit 6: squares of side 8, 16, 32 that are not split into four may be cut, by adaptive models:
      cut         0 whole, 1 0 into an upper and a lower half, 1 1 into a left and a right one
      again       before each half: 0 as it is, 1 0 along the first cut into two strips, 1 1 across it into two squares;
                  halves of squares of 8 px are not cut along it, and this is left out after their first bit

    borders       bit 7: what is drawn around a block orders its modes and predicts its signs, below:
      mode        after "zero?" up to five flags, if it is the first mode in the order, the second, ..., then its place
                  behind them in five bits, all by adaptive models; a place behind the last is the last one's
      signs       after all levels of a block, those of the lowest frequencies first: 1 if a sign is not the one that
                  is likelier, by an adaptive model

A square that is cut has no patterns, but a prediction and levels for each of its parts, upper before lower and left
before right, each predicted from what is drawn of those before.  A part of w x h px is coded as a square is:

    border        of the column on the left down to w + h, of the row above to w + h on the right, and smoothed if w h
                  is 64 or more; in the row above a part of a left half that is cut across, nothing of the right half is
                  decoded, and in the column on the left of a right half only what is beside the part itself
    plane         (((w - 1 - x) left(y) + (x + 1) right) h + ((h - 1 - y) top(x) + (y + 1) below) w + w h) / (2 w h),
                  rounded down, right and below being the samples of the border at w above and at h on the left
    mean          (w sum(left(y)) + h sum(top(x)) + w h) / (2 w h), rounded down
    blend         with s = log2(w h) - 2 >> 2
    transform     the DCTs of h and of w points, columns first; with sine those of 4 points are the sine transform's
    levels        along diagonals, from the lowest frequency; contexts are those of its own shape

The border of a square of side n is what of the column on its left, down to 2n, and of the row above, to 2n on the
right, is decoded and inside the section.  c are its samples, prediction and residual together; with none of them the
residual is predicted to be 0.  A square's samples are predicted as mean(c) + (slope * (g - mean(g)) + 2048 >> 12),
clamped to 0..4096, with two slopes and two products for 5; means are rounded down, and so is the slope, 4096 C(g,c) /
C(g,g), which is clamped to 8 * 4096 either way.  Over the N samples C(u,v) = N sum(u v) - sum(u) sum(v), plus 64 N N if
u is v.  For 5 C(g,g), C(b,b), C(g,b), C(g,c), C(b,c) are shifted down alike until all but the third have 29 bits at
most; d = C(g,g) C(b,b) - C(g,b) C(g,b), at least 1; the numerators are C(g,c) C(b,b) - C(b,c) C(g,b) and C(b,c) C(g,g)
- C(g,c) C(g,b).  Where |numerator| >> 3 is not below d the slope is at its limit; else both are shifted down until d
has 40 bits at most (d at least 1), and the slope is 4096 numerator / d.  A section needs the rows of the planes before
it that lie beside its own, and nothing else of the picture; where they are damaged, what is shown in their place does.

With the tool trellis (bit 3) every block starts in state 0, and a level of magnitude k stands for 2k half steps in
states 0 and 1, for 2k - 1 in states 2 and 3, with its sign, and for none in any state if k is 0; half a step is the
step of the index 8 higher.  The state after a level, in the order of coding, is the one that the table has for the
state before it and the parity of k.  In states 2 and 3 the decisions "zero?" and "larger than 1?" have other contexts,
those of `contexts` in `pc15/residual/contexts.py`.

```text
state         0     1     2     3
k even        0     2     1     3
k odd         2     0     3     1
```

With the tool borders the residual is clamped to -4096..4096 in place of what the picture would have it, and what is
drawn of it, before any filter, is looked at. Gradients g are those of Sobel, three rows by three columns, of weight
|gx| + |gy|: of the pixels two above a block of w x h px at (x0, y0), from x0 - 2 (at least 1) to x0 + w - 2, and to
x0 + w + 2 if the four pixels on the right of the row above are decoded and inside; and two on the left, from y0 - 1
(at least 1) to y0 + h - 2, or + h + 2 likewise. A gradient other than 0 adds its weight to the angle of the mode that
is nearest to the direction without change: with t = 32 min(|gx|, |gy|) / max, rounded, it is as many steps away from
horizontal, if |gy| > |gx|, or vertical as the angle among 0 2 5 9 13 17 21 26 32 that is nearest to t, the lower of
two: towards lower numbers if gx and gy have one sign for horizontal, towards higher ones for vertical. The score of a
mode is the sum of four terms of `terms` in `pc15/residual/v15_borders.npz`, as `order_modes` in
`pc15/residual/order.py` has them: for angles of their share of all weight, sharp (1 2 1) / 4 and broad (three on
either side), each with the octave of the mean gradient, of how they lie to the modes on the left and above, and of
the mode with the block's size; for planar and mean of the greatest broad share, of the octave of the mean gradient,
of how many neighbours have the mode, and of the mode with the size. The order is by grades, how far a score is behind
the best in sixteenths, rounded down, at most 95, and of equal ones by number. What the scores say of a flag,
exp(-grade / 16) over the sum of those from it on, is an input of its mixer that does not learn.

The signs of a block: with 2 d(x) = 3 r(x, -1) - r(x, -2) - 2 p(x, 0), r being the residual and p the block's
prediction, layers included, T(u) is the transform of d as a row of the block, and L(v) likewise from the left; each
is 0 at the picture's rim. A coefficient c of frequency (u, v) draws c a(v) on the row and c a(u) on the column, a(k)
being the first sample of its wave. For each level other than 0, by diagonals from the lowest frequency, z = 64 |c
a(v)| T(u) / (n + sum of the squares of c a(v) of those of this u whose sign is not known yet), plus the same for L; n
is an eighth of the square of half a step, and 1. The likelier sign is z's; once it is known, c a(v) is taken from
T(u) and c a(u) from L(v).

A layer adds amount * step * P / norm to the prediction, before the transform is added: P is the pattern, int8; with
norm the root of its sum of squares, in 1/1024, rounded down, and scale = 2^38 / norm, rounded down, a sample becomes
p + (f * P + 2^27 >> 28), f = amount * step * scale >> 4, step in 1/16 of a sample, with trellis 27/16 of half a step,
rounded down; a layer changes a sample by at most 2^15.  The codebook v15_squares holds 1023, 1023, 511 and 127
patterns of side 8, 16, 32 and 64: it is `pc15/residual/v15_squares.npz`, whose patterns have the SHA-256 that
`tests/residual/test_patterns.py` names.  The deblocking treats an edge between squares without prediction as one with
levels if either side has a layer.

Adaptive models start at packaged tables, files of `pc15/residual`. Those that every stream has are in v15_default,
and learnt again with trellis in v15_trellis, and from chroma with cross in v15_chroma: a plane with cross starts at
the last, else one with trellis at v15_trellis, else at v15_default. Those that a tool adds start at its own table
whatever the other tools are: trellis' at v15_trellis, cross' at v15_chroma, patterns' at v15_squares, splits' at
v15_splits, borders' at v15_borders; but with trellis and borders together all of these, cross' excepted, start at
v15_borders. A square from guides counts as one predicted by the mean where more, above, looks at its mode.

The filter: every pixel p becomes p + (sum of tap_i (a_i + b_i - 2p) + 64 >> 7); a_i and b_i are its neighbours at
(down, right) and the opposite place, (3,0) (2,-1) (2,0) (2,1) (1,-2) (1,-1) (1,0) (1,1) (1,2) (0,1) (0,2) (0,3) in
this order; pixels outside repeat the rim.  A block of 4x4 has its class from the magnitudes of second differences,
summed over the 8x8 around it, of which pixels count whose row and column are both even or both odd: V down, H across,
F down and right, R down and left.  Strength is 0, 1, 2, 3, 4 from (V + H) >> 9 of 0, 1, 2, 7, 15.  Direction is 0 if
the larger of V, H is at most twice the smaller and the larger of F, R is, too; else, if larger * smaller' > larger' *
smaller with ' for F, R, it is 1, or 2 if 2 * larger > 9 * smaller; else 3, or 4 if 2 * larger' > 9 * smaller'.  The
class is 5 * direction + strength.  If V < H taps are transposed, if F < R they are then mirrored top to bottom.
"""

from pc15.bitstream.container import (
    DEFAULT_MAX_PIXELS,
    FREE_PIXELS,
    MAX_METADATA_BYTES,
    MAX_STREAM_BYTES,
    PIXELS_PER_BYTE,
    Stream,
    pixel_limit,
    read_bitstream,
    read_container,
    write_bitstream,
    write_container,
)
from pc15.bitstream.header import (
    MAX_DIMENSION,
    MAX_PIXELS,
    MAX_TILE,
    MAX_TILES,
    Header,
    PlaneGrid,
    PlaneSpec,
    ResidualSpan,
    SectionSpan,
    grids_of,
    plane_size,
    residual_spans,
    section_count,
    section_spans,
    tile_counts,
)
from pc15.bitstream.header_bytes import pack_v15, unpack_v15
from pc15.bitstream.records import TileRec

__all__ = [
    "DEFAULT_MAX_PIXELS",
    "FREE_PIXELS",
    "MAX_DIMENSION",
    "MAX_METADATA_BYTES",
    "MAX_PIXELS",
    "MAX_STREAM_BYTES",
    "MAX_TILE",
    "MAX_TILES",
    "PIXELS_PER_BYTE",
    "Header",
    "PlaneGrid",
    "PlaneSpec",
    "ResidualSpan",
    "SectionSpan",
    "Stream",
    "TileRec",
    "grids_of",
    "pack_v15",
    "pixel_limit",
    "plane_size",
    "read_bitstream",
    "read_container",
    "residual_spans",
    "section_count",
    "section_spans",
    "tile_counts",
    "unpack_v15",
    "write_bitstream",
    "write_container",
]
