"""Steps of the search as single kernels for a GPU, in Triton; `ops` is the `Backend` made of them."""
