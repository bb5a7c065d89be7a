"""The peers. Each module has `prepare(case)`: the ways in which it computes a case, by name.

`results` are, in this order: output and h_n; in training then the gradients of x, h_0 and the
weights, in the order of `Inputs`; in streaming the state after `STREAMED_STEPS` equal inputs alone.
"""

STREAMED_STEPS = 20
