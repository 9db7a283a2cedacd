"""The ops of the corpus in plain PyTorch, as they are defined. Copy a function and put your kernel in its place.

Every op takes the parameters of a case and its tensors by name, and returns tensors by name. It sees the data of all
ranks: what ranks would exchange lies in one tensor. Nothing is imported but torch.
"""

import math

import torch

NEVER = float("-inf")


def refuse_unless(condition, why):
    if not condition:
        raise ValueError(why)


def integers(tensor):
    return [int(number) for number in tensor]


# Combines


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


# Packing


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


# Ownership


def kv_groups(parameters, inputs):
    dp, pcp, tp, dcp = (parameters.get(name, 1) for name in ("dp", "pcp", "tp", "dcp"))
    ranks = torch.arange(dp * pcp * tp, dtype=torch.int32).reshape(dp, pcp, tp)
    if parameters["layout"] == "classic":
        refuse_unless(tp % dcp == 0, "DCP must divide TP")
        groups = ranks.reshape(dp, pcp, tp // dcp, dcp).permute(0, 2, 1, 3).reshape(-1, pcp * dcp)
    else:
        refuse_unless(dcp in (1, pcp, tp * pcp), "DCP must be 1, PCP or TP * PCP")
        if dcp == 1:
            groups = ranks.reshape(-1, 1)
        elif dcp == pcp:
            groups = ranks.permute(0, 2, 1).reshape(-1, pcp)
        else:
            groups = ranks.permute(0, 2, 1).reshape(-1, tp * pcp)
    return {"groups": groups.contiguous()}


class Dealing:
    """How positions are dealt: in each round rank r gets weights[r] * interleave positions in a row."""

    def __init__(self, parameters):
        self.world = parameters.get("world", 1)
        self.interleave = parameters.get("interleave", 1)
        self.weights = parameters.get("weights") or [1] * self.world
        self.block_size = parameters.get("block_size", self.interleave)
        refuse_unless(sum(self.weights) > 0 and min(self.weights) >= 0, "somebody must store something")
        refuse_unless(self.block_size % self.interleave == 0, "the interleave must divide the block size")
        self.round = self.interleave * sum(self.weights)

    def turn(self, rank):
        return self.weights[rank] * self.interleave

    def first(self, rank):
        return sum(self.weights[:rank]) * self.interleave

    def length(self, rank, length):
        """How many of the first `length` positions a rank stores."""
        rest = length % self.round - self.first(rank)
        return length // self.round * self.turn(rank) + min(max(rest, 0), self.turn(rank))

    def own_block(self, rank):
        return self.block_size * self.weights[rank]

    def slot(self, rank, position, table):
        """Where a rank stores a position, or -1."""
        within = position % self.round - self.first(rank)
        if not 0 <= within < self.turn(rank):
            return -1
        local = position // self.round * self.turn(rank) + within
        column, offset = divmod(local, self.own_block(rank))
        refuse_unless(column < len(table), "the block table is too short")
        return table[column] * self.own_block(rank) + offset


def local_lengths(parameters, inputs):
    dealing, lengths = Dealing(parameters), integers(inputs["lengths"])
    local = [[dealing.length(rank, length) for length in lengths] for rank in range(dealing.world)]
    return {"local": torch.tensor(local, dtype=torch.int32)}


def slot_mapping(parameters, inputs):
    dealing, positions, table = Dealing(parameters), integers(inputs["positions"]), integers(inputs["block_table"])
    slots = [[dealing.slot(rank, position, table) for position in positions] for rank in range(dealing.world)]
    return {"slots": torch.tensor(slots, dtype=torch.int32)}


# Attention


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
            cache *= torch.tensor(scales).reshape(1, -1, 1)
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
    results = [
        attend_on_rank(
            parameters,
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
