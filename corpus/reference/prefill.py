"""Prefill of chunks of new tokens over sharded contexts: in its parts, and the whole step."""

import torch

from .arguments import integers, refuse_unless
from .attention import attend_row
from .combines import merge_attn_states
from .ownership import Dealing

NEVER = float("-inf")


class Chunks:
    """The new tokens of a step: queries[b] of them at the end of sequence b, whose context lies before them."""

    def __init__(self, lengths, queries):
        refuse_unless(all(0 <= new <= length for new, length in zip(queries, lengths)), "more new tokens than tokens")
        self.sequences = range(len(lengths))
        self.contexts = [length - new for new, length in zip(queries, lengths)]
        self.first_rows = [sum(queries[:sequence]) for sequence in self.sequences]
        self.queries = queries

    def rows(self, sequence):
        return range(self.first_rows[sequence], self.first_rows[sequence] + self.queries[sequence])


class RunningState:
    """What rows have attended to so far: output [T, H, D] and natural LSE [T, H]. `merge` adds what some attend to."""

    def __init__(self, tokens, heads, dim):
        self.out, self.lse = torch.zeros(tokens, heads, dim), torch.full((tokens, heads), NEVER)

    def merge(self, row, out, lse):
        outs, lses = torch.stack([self.out[row], out]), torch.stack([self.lse[row], lse])
        merged = merge_attn_states({"non_finite": "propagate"}, {"outs": outs, "lses": lses})
        self.out[row], self.lse[row] = merged["out"], merged["lse"]


def attend_heads(parameters, query, keys, values, sinks=None):
    """All heads of one row [H, Dk] over keys [S, Hkv, Dk] and values: out [H, Dv] and lse [H]."""
    heads, kv_heads = len(query), keys.shape[1]
    sink_of = [NEVER] * heads if sinks is None else sinks.tolist()
    rows = [
        attend_row(
            parameters,
            query[head].float(),
            keys[:, head * kv_heads // heads].float(),
            values[:, head * kv_heads // heads].float(),
            sink_of[head],
        )
        for head in range(heads)
    ]
    return torch.stack([out for out, _ in rows]), torch.stack([lse for _, lse in rows])


def context_chunks(parameters, context):
    """[start, end) of the chunks in which a context is attended to: what a workspace holds at a time."""
    size = parameters.get("context_chunk", max(context, 1))
    refuse_unless(size >= 1, "a chunk of at least one position")
    return [(start, min(start + size, context)) for start in range(0, context, size)]


def scaled(tensor, scales):
    """What numbers [..., Hkv, D] of a cache are worth."""
    return tensor.float() * (1 if scales is None else torch.tensor(scales).reshape(-1, 1))


def prefill_parts(parameters, inputs):
    """Context on every rank, the chunk by itself, and both merged. No window and no sinks."""
    dealing, query, key = Dealing(parameters), inputs["query"], inputs["key"]
    dim = parameters.get("value_dim")
    value = inputs["value"] if dim is None else key[..., :dim]
    key_cache = scaled(inputs["key_cache"], parameters.get("key_scale"))
    value_cache = scaled(inputs["value_cache"], parameters.get("value_scale")) if dim is None else key_cache[..., :dim]
    table = inputs["block_table"]
    refuse_unless(int(table.min()) >= 0 and int(table.max()) < key_cache.shape[1], "a block that is not there")
    chunks = Chunks(integers(inputs["lengths"]), integers(inputs["queries"]))
    shape = (query.shape[0], query.shape[1], value.shape[2])
    contexts = [RunningState(*shape) for _ in range(dealing.world)]
    own = RunningState(*shape)
    for sequence in chunks.sequences:
        for rank, state in enumerate(contexts):
            for start, end in context_chunks(parameters, chunks.contexts[sequence]):
                local = range(dealing.length(rank, start), dealing.length(rank, end))
                blocks = [int(table[sequence, index // dealing.block_size]) for index in local]
                offsets = [index % dealing.block_size for index in local]
                keys, values = key_cache[rank][blocks, offsets], value_cache[rank][blocks, offsets]
                for row in chunks.rows(sequence):
                    state.merge(row, *attend_heads(parameters, query[row], keys, values))
        first = chunks.first_rows[sequence]
        for row in chunks.rows(sequence):
            own.merge(row, *attend_heads(parameters, query[row], key[first : row + 1], value[first : row + 1]))
    parts = {"outs": torch.stack([s.out for s in contexts]), "lses": torch.stack([s.lse for s in contexts])}
    whole = {"outs": torch.cat([parts["outs"], own.out[None]]), "lses": torch.cat([parts["lses"], own.lse[None]])}
    return {
        "context_out": parts["outs"],
        "context_lse": parts["lses"],
        "chunk_out": own.out,
        "chunk_lse": own.lse,
        **merge_attn_states({"non_finite": "propagate"}, whole),
    }


def head_and_tail(tokens, pcp):
    """The rows of a chunk that each rank of prefill context parallelism computes: a part from each of its ends."""
    size = -(-len(tokens) // (2 * pcp))
    parts = [tokens[part * size : (part + 1) * size] for part in range(2 * pcp)]
    return [[*parts[rank], *parts[2 * pcp - 1 - rank]] for rank in range(pcp)]


def prefill_step(parameters, inputs):
    """
    Every rank stores its share of all tokens. For each chunk of a context the ranks show each other what they store of
    it; PCP ranks each attend for their rows, and rows go back to where they belong. The chunk itself is not sharded.
    """
    dealing, query = Dealing(parameters), inputs["query"]
    window = parameters.get("window")
    refuse_unless(window is None or window >= 1, "a window of at least 1")
    dim = parameters.get("value_dim")
    key = scaled(inputs["key"], parameters.get("key_scale"))
    value = scaled(inputs["value"], parameters.get("value_scale")) if dim is None else key[..., :dim]
    lengths = integers(inputs["lengths"])
    chunks = Chunks(lengths, integers(inputs["queries"]))
    state = RunningState(query.shape[0], query.shape[1], value.shape[2])
    token = 0
    for sequence, length in enumerate(lengths):
        keys, values = key[token : token + length], value[token : token + length]
        token += length
        stored = [[at for at in range(length) if dealing.owner(at) == rank] for rank in range(dealing.world)]
        context = chunks.contexts[sequence]
        for rows in head_and_tail(chunks.rows(sequence), parameters.get("pcp", 1)):
            for start, end in context_chunks(parameters, context):
                shown = []
                for rank, positions in enumerate(stored):
                    shown += positions[dealing.length(rank, start) : dealing.length(rank, end)]
                for row in rows:
                    position = context + row - chunks.first_rows[sequence]
                    seen = [at for at in shown if window is None or at > position - window]
                    state.merge(row, *attend_heads(parameters, query[row], keys[seen], values[seen]))
            for row in rows:
                position = context + row - chunks.first_rows[sequence]
                first = context if window is None else max(context, position - window + 1)
                seen = slice(first, position + 1)
                sinks = inputs.get("sinks")
                state.merge(row, *attend_heads(parameters, query[row], keys[seen], values[seen], sinks))
    return {"out": state.out, "lse": state.lse}
