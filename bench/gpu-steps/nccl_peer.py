"""The exchange of a DCP decode step by NCCL, eagerly: what `bun run bench:gpu-steps` is compared with.

    python3 bench/gpu-steps/nccl_peer.py [--ranks 2]

Every rank is a process with a GPU of its own. A step: all-gather of the queries, all-gather of the LSEs, one Triton
kernel that rescales this rank's partial output of all heads by exp(LSE - LSE of all), reduce-scatter of the outputs in
16 bits. No attention. Wall time of the slower rank, the median of samples of many steps each; the result is compared
with float64. Prints a line of JSON for each shape. Needs PyTorch with CUDA and Triton.
"""

import argparse
import json
import os
import statistics
import time

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import triton
import triton.language as tl

# Name, batch, heads, query dim, value dim, dtype: as in step-shapes.ts.
SHAPES = [
    ("B1 H128 Dq576 Dv512 bf16", 1, 128, 576, 512, torch.bfloat16),
    ("B8 H128 Dq576 Dv512 bf16", 8, 128, 576, 512, torch.bfloat16),
    ("B64 H128 Dq576 Dv512 bf16", 64, 128, 576, 512, torch.bfloat16),
    ("B1 H32 D128 f16", 1, 32, 128, 128, torch.float16),
    ("B32 H32 D128 f16", 32, 32, 128, 128, torch.float16),
    ("B256 H32 D128 f16", 256, 32, 128, 128, torch.float16),
]
STEPS, SAMPLES = 200, 15


@triton.jit
def rescale(out, lses, rows, ranks: tl.constexpr, rank: tl.constexpr, dim: tl.constexpr):
    """out[row] *= exp(lses[rank, row] - log(sum over ranks of exp(lses))); a program for each row."""
    row = tl.program_id(0)
    largest = tl.load(lses + row)
    for other in tl.static_range(1, ranks):
        largest = tl.maximum(largest, tl.load(lses + other * rows + row))
    total = 0.0
    for other in tl.static_range(ranks):
        total += tl.exp(tl.load(lses + other * rows + row) - largest)
    weight = tl.exp(tl.load(lses + rank * rows + row) - largest) / total
    columns = tl.arange(0, dim)
    values = tl.load(out + row * dim + columns)
    tl.store(out + row * dim + columns, (values * weight).to(values.dtype))


def check(result, partials, lses, rank, heads, ranks):
    """The reduce-scattered heads of this rank against float64."""
    weights = torch.softmax(lses.double(), dim=0)
    wanted = (partials.double() * weights[..., None]).sum(0)
    own = heads // ranks
    wanted = wanted[:, rank * own : (rank + 1) * own].transpose(0, 1)
    error = (result.double() - wanted).abs().max().item()
    if not error < 3e-2:
        raise SystemExit(f"rank {rank}: the result is {error} off")


def measure(rank, ranks, shape):
    name, batch, heads, query_dim, value_dim, dtype = shape
    own = heads // ranks
    device = torch.device("cuda", rank)
    generator = torch.Generator(device).manual_seed(1)
    random = lambda *size: torch.randn(*size, generator=generator, device=device)
    partials = random(ranks, batch, heads, value_dim).to(dtype)
    lses = random(ranks, batch, heads)
    query = random(batch, own, query_dim).to(dtype)
    queries = torch.empty(ranks, batch, own, query_dim, dtype=dtype, device=device)
    gathered = torch.empty_like(lses)
    result = torch.empty(own, batch, value_dim, dtype=dtype, device=device)
    out = torch.empty_like(partials[rank])

    def step():
        dist.all_gather_into_tensor(queries, query)
        dist.all_gather_into_tensor(gathered, lses[rank])
        rescale[(batch * heads,)](out, gathered, batch * heads, ranks, rank, value_dim)
        # By heads, as the original moves them before it scatters.
        dist.reduce_scatter_tensor(result, out.transpose(0, 1).contiguous())

    out.copy_(partials[rank])
    step()
    check(result, partials, lses, rank, heads, ranks)
    for _ in range(STEPS):
        step()
    torch.cuda.synchronize()
    times = []
    for _ in range(SAMPLES):
        dist.barrier()
        torch.cuda.synchronize()
        started = time.perf_counter()
        for _ in range(STEPS):
            step()
            torch.cuda.synchronize()
        times.append((time.perf_counter() - started) / STEPS * 1e6)
    slowest = torch.tensor([statistics.median(times)], device=device)
    dist.all_reduce(slowest, op=dist.ReduceOp.MAX)
    if rank == 0:
        report = {"step": name, "ranks": ranks, "gpu": torch.cuda.get_device_name(rank), "us": round(slowest.item(), 1)}
        print(json.dumps(report), flush=True)


def run(rank, ranks):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="29533")
    torch.cuda.set_device(rank)
    dist.init_process_group("nccl", rank=rank, world_size=ranks)
    for shape in SHAPES:
        measure(rank, ranks, shape)
    dist.destroy_process_group()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, default=2, help="GPUs (default: 2)")
    chosen = parser.parse_args()
    if not 2 <= chosen.ranks <= torch.cuda.device_count():
        raise SystemExit(f"--ranks must be from 2 to the {torch.cuda.device_count()} GPUs here, but is {chosen.ranks}")
    mp.spawn(run, (chosen.ranks,), nprocs=chosen.ranks)
