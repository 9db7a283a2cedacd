#!/usr/bin/env python3
"""Writes reference files for `lockstep-goldens` with PyTorch: one for each kind of docs/goldens.md.

    pip install torch safetensors numpy
    python3 generate.py FOLDER
    bunx @lockstep/goldens --backend wasm,reference FOLDER/*.safetensors

To check another implementation, let it compute what `correct`, `pack` and `attend` compute here in float64.
"""

import json
import math
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

INFINITY = float("inf")


def correct(out, lses, base):
    """out [N, B, H, D], lses [N, B, H]: each rank's output times its weight in the whole, and the LSE over all ranks."""
    log_of_base = 1.0 if base == "e" else math.log(2)
    natural = lses.double() * log_of_base
    natural = torch.where(natural.isnan() | (natural == INFINITY), -INFINITY, natural)
    lse = natural.logsumexp(0)
    weights = (natural - lse).exp().nan_to_num(0.0)  # -inf less -inf: no rank has a token
    corrected = torch.where(weights[..., None] == 0, 0.0, out.double() * weights[..., None])
    return corrected.to(out.dtype), lse / log_of_base


def pack(x, lengths, pad):
    """x [T, ...]: the padded batch [B, max(lengths), ...], and the sequences one after another again."""
    sequences = x[: sum(lengths)].split(lengths)
    packed = torch.full((len(lengths), max(lengths), *x.shape[1:]), pad, dtype=x.dtype)
    for row, sequence in zip(packed, sequences):
        row[: len(sequence)] = sequence
    return packed, torch.cat([row[:length] for row, length in zip(packed, lengths)])


def attend(q, k, v, lens, queries, scale, window=None, softcap=None, sinks=None, lse_base="e"):
    """Each query token over the tokens of its sequence up to its own position. q [T, Hq, Dk], k [sum(lens), Hkv, Dk]."""
    heads = q.shape[1]
    out = torch.zeros(q.shape[0], heads, v.shape[2], dtype=torch.float64)
    lse = torch.full((q.shape[0], heads), -INFINITY, dtype=torch.float64)
    first_query, first_token = 0, 0
    for length, count in zip(lens, queries):
        for query in range(count if length > 0 else 0):
            position = length - count + query
            oldest = 0 if window is None else max(0, position - window + 1)
            visible = slice(first_token + oldest, first_token + position + 1)
            keys, values = (t[visible].double().repeat_interleave(heads // k.shape[1], dim=1) for t in (k, v))
            scores = torch.einsum("hd,nhd->hn", q[first_query + query].double(), keys) * scale
            if softcap is not None:
                scores = softcap * torch.tanh(scores / softcap)
            # A sink is the score of a token whose value is 0.
            all_scores = scores if sinks is None else torch.cat([scores, sinks.double()[:, None]], dim=1)
            row = all_scores.logsumexp(-1)
            lse[first_query + query] = row
            out[first_query + query] = torch.einsum("hn,nhd->hd", (scores - row[:, None]).exp(), values)
        first_query, first_token = first_query + count, first_token + length
    return out.float(), lse / (1.0 if lse_base == "e" else math.log(2))


def correction_case(ranks, batch, heads, dim, dtype=torch.float32, base="e"):
    out = torch.randn(ranks, batch, heads, dim).to(dtype)
    lses = torch.randn(ranks, batch, heads) * 4
    lses[0, 0, 0] = -INFINITY  # a rank without a token of the sequence
    corrected, lse = correct(out, lses, base)
    return {"base": base}, {"out": out, "lses": lses, "corrected": corrected, "lse": lse}


def packing_case(lengths, shape, dtype=torch.float32, pad="-inf"):
    x = (torch.randn(sum(lengths) + 2, *shape) * 50).to(dtype)
    packed, unpacked = pack(x, lengths, float(pad))
    return {"pad": pad}, {"x": x, "lengths": torch.tensor(lengths), "packed": packed, "unpacked": unpacked}


def attention_case(lens, heads, dim, dtype=torch.float32, queries=None, value_dim=None, sinks=False, **fields):
    """`value_dim`: MLA, whose values are the first columns of the keys. A dtype of 8 bits: what the cache holds."""
    query_heads, kv_heads = heads
    queries = queries or [1] * len(lens)
    q = torch.randn(sum(queries), query_heads, dim)
    k, v = (torch.randn(sum(lens), kv_heads, dim) for _ in range(2))
    tensors, stored_k, stored_v = {}, k.to(dtype), v.to(dtype)
    if dtype == torch.float8_e4m3fn:
        fields |= {"k_scale": 0.02, "v_scale": 0.03}
        stored_k, stored_v = (k / 0.02).to(dtype), (v / 0.03).to(dtype)
        k, v = stored_k.float() * 0.02, stored_v.float() * 0.03
    else:
        q, k, v = q.to(dtype), stored_k, stored_v
    if value_dim is None:
        tensors["v"] = stored_v
    else:
        v = k[..., :value_dim]
    if sinks:
        tensors["sinks"] = torch.randn(query_heads)
    known = {name: fields[name] for name in ("window", "softcap", "lse_base") if name in fields}
    scale = fields.get("scale", dim**-0.5)
    out, lse = attend(q, k, v, lens, queries, scale, sinks=tensors.get("sinks"), **known)
    return {"lens": lens, "queries": queries, **fields}, {"q": q, "k": stored_k, "out": out, "lse": lse, **tensors}


def save(path, letter, cases):
    """Case number i has the tensors `<letter><i>.<name>`; its fields are in the metadata."""
    tensors = {
        f"{letter}{i}.{name}": tensor.contiguous() for i, (_, named) in enumerate(cases) for name, tensor in named.items()
    }
    save_file(tensors, path, metadata={"cases": json.dumps([fields for fields, _ in cases])})
    print(f"{path}: {len(cases)} cases")


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    corrections = [
        correction_case(2, 3, 4, 64),
        correction_case(4, 1, 8, 113, torch.float16),
        correction_case(3, 5, 2, 32, torch.bfloat16, base="2"),
    ]
    packings = [
        packing_case([3, 0, 7], [2, 5]),
        packing_case([1, 4], [8], torch.bfloat16, pad="0"),
        packing_case([2, 6, 1], [3], torch.int8, pad="-7"),
    ]
    attentions = [
        attention_case([5, 0, 70], (8, 2), 64),
        attention_case([33], (4, 4), 113, torch.bfloat16),
        attention_case([40, 9], (4, 2), 32, queries=[3, 9], window=16),
        attention_case([25, 12], (4, 1), 64, torch.float16, softcap=30.0, sinks=True, lse_base="2"),
        attention_case([50], (16, 1), 96, value_dim=64, scale=0.1),
        attention_case([20, 31], (8, 2), 64, torch.float8_e4m3fn),
    ]
    save(folder / "correction.safetensors", "c", corrections)
    save(folder / "packing.safetensors", "p", packings)
    save(folder / "attention.safetensors", "a", attentions)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
