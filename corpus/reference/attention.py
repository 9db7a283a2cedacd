"""Attention over each rank's share of a paged cache, and the whole step of decoding."""

import math

import torch

from .arguments import integers, refuse_unless
from .combines import merge_attn_states
from .ownership import Dealing

NEVER = float("-inf")


def attend_row(parameters, query, keys, values, sink):
    """One query row [D] over the keys that it sees [S, D]: output and natural LSE."""
    if len(keys) == 0 and sink == NEVER:
        return torch.zeros(values.shape[1]), torch.tensor(NEVER)
    scale = parameters.get("scale", 1 / math.sqrt(query.shape[0]))
    scores = (keys @ query) * scale
    if "softcap" in parameters:
        scores = parameters["softcap"] * torch.tanh(scores / parameters["softcap"])
    if not torch.isfinite(scores).all():
        # What is not finite must stay visible.
        return torch.full((values.shape[1],), math.nan), torch.tensor(math.nan)
    with_sink = torch.cat([scores, torch.tensor([sink])])
    lse = torch.logsumexp(with_sink, dim=0)
    return torch.exp(scores - lse) @ values, lse


def attend_on_rank(parameters, dealing, rank, query, keys, values, table, sequences, positions, sinks):
    """All query rows over what one rank stores: keys and values are paged [blocks, block size, Hkv, D]."""
    window = parameters.get("window")
    refuse_unless(window is None or window >= 1, "a window of at least 1")
    refuse_unless("softcap" not in parameters or parameters["softcap"] > 0, "a positive softcap")
    refuse_unless(int(table.min()) >= 0 and int(table.max()) < len(keys), "a block that is not there")
    tokens, heads, _ = query.shape
    kv_heads = keys.shape[2]
    group = parameters.get("head_group", {"size": heads // kv_heads, "offset": 0})
    keys, values = keys.flatten(0, 1).float(), values.flatten(0, 1).float()
    for cache, scales in ((keys, parameters.get("key_scale")), (values, parameters.get("value_scale"))):
        if scales is not None:
            # One for each head, or one for each row and head.
            scales = torch.as_tensor(scales)
            cache *= scales.flatten(0, 1).unsqueeze(-1) if scales.dim() == 3 else scales.reshape(1, -1, 1)
    out, lse = torch.zeros(tokens, heads, values.shape[2]), torch.full((tokens, heads), NEVER)
    own = dealing.own_block(rank)
    for token in range(tokens):
        position = positions[token]
        end = dealing.length(rank, position + 1)
        start = 0 if window is None else dealing.length(rank, max(0, position - window + 1))
        blocks = table[sequences[token]]
        slots = [int(blocks[local // own]) * own + local % own for local in range(start, end)]
        for head in range(heads):
            kv_head = (head + group["offset"]) // group["size"]
            # Of the shards of a context one counts the sinks; padding sees not even them.
            sink = float(sinks[head]) if sinks is not None and rank == 0 and position >= 0 else NEVER
            row = attend_row(parameters, query[token, head].float(), keys[slots, kv_head], values[slots, kv_head], sink)
            out[token, head], lse[token, head] = row
    return out, lse


def partial_attention(parameters, inputs):
    dealing = Dealing(parameters)
    keys = inputs["key_cache"]
    values = inputs.get("value_cache")
    if values is None:
        values = keys[..., : parameters["value_dim"]]
    sequences, positions = integers(inputs["sequences"]), integers(inputs["positions"])
    row_scales = {name: inputs[f"{name}s"] for name in ("key_scale", "value_scale") if f"{name}s" in inputs}
    results = [
        attend_on_rank(
            {**parameters, **{name: scales[rank] for name, scales in row_scales.items()}},
            dealing,
            rank,
            inputs["query"],
            keys[rank].clone(),
            values[rank].clone(),
            inputs["block_table"],
            sequences,
            positions,
            inputs.get("sinks"),
        )
        for rank in range(dealing.world)
    ]
    return {"out": torch.stack([out for out, _ in results]), "lse": torch.stack([lse for _, lse in results])}


def decode_step(parameters, inputs):
    """Stores all keys, attends on every rank of a group and combines. The groups of a layout all do the same."""
    dealing = Dealing(parameters)
    query, key = inputs["query"], inputs["key"]
    value = inputs.get("value")
    if value is None:
        value = key[..., : parameters["value_dim"]]
    refuse_unless(query.shape[1] % key.shape[1] == 0, "query heads must share KV heads evenly")
    lengths, queries = integers(inputs["lengths"]), integers(inputs["queries"])
    covered = dealing.block_size * sum(dealing.weights)
    columns = max(1, *(-(-length // covered) for length in lengths))
    table = torch.arange(len(lengths) * columns).flip(0).reshape(len(lengths), columns)
    sequences = [sequence for sequence, count in enumerate(queries) for _ in range(count)]
    positions = [max(-1, lengths[at] - count + j) for at, count in enumerate(queries) for j in range(count)]
    outs, lses = [], []
    for rank in range(dealing.world):
        shape = (table.numel(), dealing.own_block(rank))
        keys = torch.full((*shape, *key.shape[1:]), math.nan, dtype=key.dtype)
        values = torch.full((*shape, *value.shape[1:]), math.nan, dtype=value.dtype)
        token = 0
        for sequence, length in enumerate(lengths):
            for position in range(length):
                slot = dealing.slot(rank, position, integers(table[sequence]))
                if slot >= 0:
                    keys.view(-1, *key.shape[1:])[slot] = key[token]
                    values.view(-1, *value.shape[1:])[slot] = value[token]
                token += 1
        sinks = inputs.get("sinks")
        out, lse = attend_on_rank(
            parameters, dealing, rank, query, keys, values, table, sequences, positions, sinks
        )
        outs.append(out)
        lses.append(lse)
    states = {"outs": torch.stack(outs), "lses": torch.stack(lses)}
    return merge_attn_states({"non_finite": "propagate"}, states)
