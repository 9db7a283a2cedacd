"""Correction and merge of partial attention by LSE, what ranks exchange for it, and the gather of queries."""

import math

import torch

from .arguments import refuse_unless

NEVER = float("-inf")


def weights_of(lses, parameters):
    """The weight of each rank's output, and the LSE over all, from LSEs [N, ...]."""
    lses = lses.float()
    bad = torch.isnan(lses) | (lses == math.inf)
    drop = parameters.get("non_finite", "drop") == "drop"
    clean = torch.where(bad, torch.full_like(lses, NEVER), lses)
    to_e = math.log(2) if parameters.get("base", "e") == "2" else 1.0
    most = clean.max(dim=0).values
    shift = torch.where(torch.isinf(most), torch.zeros_like(most), most)
    powers = torch.exp((clean - shift) * to_e)
    total = powers.sum(dim=0)
    lse = shift + torch.log(total) / to_e
    weights = torch.where(total > 0, powers / total, torch.zeros_like(powers))
    if not drop:
        row_is_bad = bad.any(dim=0)
        lse = torch.where(row_is_bad, torch.full_like(lse, math.nan), lse)
        weights = torch.where(row_is_bad, torch.full_like(weights, math.nan), weights)
    return weights, lse, clean


def corrected_outputs(parameters, outs, lses):
    refuse_unless(outs.shape[:-1] == lses.shape, "one LSE for each row of the outputs")
    weights, lse, clean = weights_of(lses, parameters)
    products = outs.float() * weights.unsqueeze(-1)
    # What an empty rank left in its output counts nowhere: 0 * NaN is NaN.
    empty = (clean == NEVER) & ~torch.isnan(weights)
    if parameters.get("non_finite", "drop") == "drop":
        empty = weights == 0
    return torch.where(empty.unsqueeze(-1), torch.zeros_like(products), products), lse


def rounded(parameters, tensor):
    dtype = {"f16": torch.float16, "bf16": torch.bfloat16}.get(parameters.get("out_dtype"), torch.float32)
    return tensor.to(dtype).float()


def correct_attn_out(parameters, inputs):
    corrected, lse = corrected_outputs(parameters, inputs["outs"], inputs["lses"])
    return {"corrected": rounded(parameters, corrected), "lse": lse}


def merge_attn_states(parameters, inputs):
    corrected, lse = corrected_outputs(parameters, inputs["outs"], inputs["lses"])
    return {"out": rounded(parameters, corrected.sum(dim=0)), "lse": lse}


def chunk(heads, rank, ranks):
    return slice(heads * rank // ranks, heads * (rank + 1) // ranks)


def reduce_output(parameters, inputs):
    """All-gather of LSEs, correction, reduce-scatter: rank r keeps its chunk of the heads."""
    outs, lses = inputs["outs"], inputs["lses"]
    ranks, heads = outs.shape[0], outs.shape[2]
    corrected, lse = corrected_outputs(parameters, outs, lses)
    out = [corrected[:, :, chunk(heads, rank, ranks)].sum(dim=0) for rank in range(ranks)]
    return {"out": torch.cat(out, dim=1), "lse": lse}


def a2a_combine(parameters, inputs):
    """Every rank sends each peer the outputs and LSEs of the peer's heads, and merges what it gets."""
    outs, lses = inputs["outs"], inputs["lses"]
    ranks, heads = outs.shape[0], outs.shape[2]
    merged = []
    for rank in range(ranks):
        own = chunk(heads, rank, ranks)
        merged.append(merge_attn_states(parameters, {"outs": outs[:, :, own], "lses": lses[:, :, own]}))
    return {name: torch.cat([one[name] for one in merged], dim=1) for name in ("out", "lse")}


def gather_query(parameters, inputs):
    query, ranks = inputs["query"], parameters["world"]
    heads = query.shape[1]
    brought = [query[:, chunk(heads, rank, ranks)].contiguous() for rank in range(ranks)]
    return {"gathered": torch.cat(brought, dim=1)}
