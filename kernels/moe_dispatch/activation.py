"""SwiGLU, the activation of every expert."""

from __future__ import annotations

import triton.language as tl

from .target import device_function


@device_function
def swiglu(gate, up):
    """`SiLU(gate) * up` in float32 (Shazeer 2020, arXiv:2002.05202).

    SiLU(g) = g * sigmoid(g). The sigmoid is written with exp(-|g|), which cannot overflow.
    """
    decay = tl.exp(-tl.abs(gate))
    sigmoid = tl.where(gate >= 0, 1.0, decay) / (1.0 + decay)
    return gate * sigmoid * up
