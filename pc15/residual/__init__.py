"""The sparse residual: what a picture's program leaves over, as quantized transform coefficients.

    from pc15.residual.decode import decode_residual
    from pc15.residual.enc.encode import ResidualParams, encode_residual
    code = encode_residual(picture - prediction, prediction, ResidualParams(step=18))     # [h,w] int32 Q12 planes
    picture = decode_residual(code.payload, prediction, 18)                               # == code.reconstruction

A plane is cut into superblocks of 64x64, each into a quadtree of squares from 64 down to 4, and some of those into
parts (`shapes`).  A block is predicted from the residual decoded around it (`intra`), or from other planes (`cross`),
or not at all, and may add patterns of a codebook (`patterns`); what is left goes through an integer DCT (`dct`) and a
uniform quantizer, or one of two between which the levels before choose, and its levels through adaptive, mixed binary
models (`syntax`, `context_models`) into one rANS stream.  The sum of prediction and residual is deblocked (`deblock`)
and filtered once more (`wiener`).  Newer parts are tools that a header switches on, bit by bit (`tools`).  The decoder
is integer-only.

    context_models, initial_models    counters, mixing, rANS; where they start (five packaged tables)
    shapes                            squares, halves and strips, and how squares are cut into them
    tree, syntax, contexts            which decisions are made in which order, and their contexts: one walk both ways
    tools                             which tools there are
    intra, cross, patterns, dct, reconstruct, deblock, wiener    levels -> picture; cross predicts from planes before
    decode, bits                      a payload -> the picture; -> what its bits went to
    enc                               the encoder, which no decoder imports: encode, and its choices: rdo, leaf, block,
                                      mode_screen, pattern_search, trellis, wiener_fit; train, which learns where models
                                      start
"""
