"""Sequences into padded batches, and back."""

import torch

from .arguments import integers, refuse_unless

NEVER = float("-inf")


def pack_seq(parameters, inputs):
    x, lengths = inputs["x"], integers(inputs["lengths"])
    refuse_unless(min(lengths) >= 0, "a length is negative")
    refuse_unless(sum(lengths) <= x.shape[0], "lengths sum to more rows than there are")
    pad = parameters.get("pad", "-inf")
    packed = torch.full((len(lengths), max(lengths), *x.shape[1:]), NEVER if pad == "-inf" else pad, dtype=x.dtype)
    start = 0
    for sequence, length in enumerate(lengths):
        packed[sequence, :length] = x[start : start + length]
        start += length
    return {"packed": packed}


def unpack_seq(parameters, inputs):
    packed, lengths = inputs["packed"], integers(inputs["lengths"])
    refuse_unless(min(lengths) >= 0 and max(lengths) <= packed.shape[1], "a length beyond the padded one")
    return {"unpacked": torch.cat([packed[sequence, :length] for sequence, length in enumerate(lengths)])}
