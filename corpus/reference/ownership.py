"""Who holds what: groups of ranks, shares of lengths and of ranges, cache slots."""

import torch

from .arguments import integers, refuse_unless


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

    def owner(self, position):
        """The rank that stores a position."""
        within = position % self.round
        return next(rank for rank in range(self.world) if within < self.first(rank) + self.turn(rank))

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


def local_ranges(parameters, inputs):
    """Of positions [start, end), as those of a chunk of a context: first local index and count, on every rank."""
    dealing, starts, ends = Dealing(parameters), integers(inputs["starts"]), integers(inputs["ends"])
    ranges = list(zip(starts, ends))
    first = [[dealing.length(rank, start) for start, _ in ranges] for rank in range(dealing.world)]
    count = [
        [dealing.length(rank, end) - dealing.length(rank, start) for start, end in ranges]
        for rank in range(dealing.world)
    ]
    return {"first": torch.tensor(first, dtype=torch.int32), "count": torch.tensor(count, dtype=torch.int32)}


def slot_mapping(parameters, inputs):
    dealing, positions, table = Dealing(parameters), integers(inputs["positions"]), integers(inputs["block_table"])
    slots = [[dealing.slot(rank, position, table) for position in positions] for rank in range(dealing.world)]
    return {"slots": torch.tensor(slots, dtype=torch.int32)}
