/*
 * The peer of bench/collectives-peer.ts: the same collectives by OpenMPI, timed from C.
 *
 *   mpirun -np N mpi-peer [name bytes rounds]...
 *
 * `bytes` counts as in the table of Lockstep's bench: see bench/collectives-peer.ts. Rank 0 prints one JSON array with
 * an element per case: {"name", "bytes", "seconds"}. `seconds` is the median over batches of calls, of the slowest rank.
 * Every batch starts from poisoned results and has every element of its last call checked; wrong data end the run with
 * exit code 1.
 */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BATCHES 20

static int rank, size;

static void fail(const char *what, const char *name, long index, float found, float expected) {
  fprintf(stderr, "mpi-peer: rank %d, %s: %s, element %ld is %g instead of %g\n", rank, name, what, index, found,
          expected);
  MPI_Abort(MPI_COMM_WORLD, 1);
}

static float *elements(long count) {
  float *data = NULL;
  if (posix_memalign((void **)&data, 128, (count > 0 ? count : 1) * sizeof(float)) != 0) {
    fprintf(stderr, "mpi-peer: no memory for %ld elements\n", count);
    MPI_Abort(MPI_COMM_WORLD, 1);
  }
  return data;
}

/* What rank r brings as element i: small integers, so that every sum is exact. Differs in every batch. */
static float brought(int r, long i, int batch) { return (float)((r + 1) * 3 + (i * 7 + batch) % 61); }

static int ascending(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

struct buffers {
  float *input, *output;
  long inputCount, outputCount;
};

enum operation { BARRIER, ALL_GATHER, REDUCE_SCATTER, ALL_REDUCE, ALL_TO_ALL, BROADCAST };
static const char *const names[] = {"barrier", "all-gather", "reduce-scatter", "all-reduce", "all-to-all", "broadcast"};

/* `count`: elements of one rank's contribution (all-gather, broadcast, all-reduce), or of the whole that it brings
 * (reduce-scatter, all-to-all). A multiple of the size for those two. */
static void call(enum operation operation, struct buffers *b, long count) {
  long part = count / size;
  switch (operation) {
  case BARRIER: MPI_Barrier(MPI_COMM_WORLD); break;
  case ALL_GATHER: MPI_Allgather(b->input, count, MPI_FLOAT, b->output, count, MPI_FLOAT, MPI_COMM_WORLD); break;
  case REDUCE_SCATTER: MPI_Reduce_scatter_block(b->input, b->output, part, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD); break;
  case ALL_REDUCE: MPI_Allreduce(b->input, b->output, count, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD); break;
  case ALL_TO_ALL: MPI_Alltoall(b->input, part, MPI_FLOAT, b->output, part, MPI_FLOAT, MPI_COMM_WORLD); break;
  case BROADCAST: MPI_Bcast(b->output, count, MPI_FLOAT, 0, MPI_COMM_WORLD); break;
  }
}

static float expected(enum operation operation, long i, long count, int batch) {
  long part = count / size;
  switch (operation) {
  case ALL_GATHER: return brought(i / count, i % count, batch);
  case ALL_TO_ALL: return brought(i / part, rank * part + i % part, batch);
  case BROADCAST: return brought(0, i, batch);
  default: {
    float sum = 0;
    long at = operation == REDUCE_SCATTER ? rank * part + i : i;
    for (int r = 0; r < size; r++) sum += brought(r, at, batch);
    return sum;
  }
  }
}

static void fill(enum operation operation, struct buffers *b, int batch) {
  for (long i = 0; i < b->inputCount; i++) b->input[i] = brought(rank, i, batch);
  for (long i = 0; i < b->outputCount; i++) b->output[i] = -1;
  if (operation == BROADCAST && rank == 0)
    for (long i = 0; i < b->outputCount; i++) b->output[i] = brought(0, i, batch);
}

static double timeCase(enum operation operation, long bytes, long rounds) {
  long count = bytes / (long)sizeof(float);
  struct buffers b = {.inputCount = operation == BROADCAST || operation == BARRIER ? 0 : count, .outputCount = count};
  if (operation == ALL_GATHER) b.outputCount = count * size;
  if (operation == REDUCE_SCATTER) b.outputCount = count / size;
  if (operation == BARRIER) b.outputCount = 0;
  b.input = elements(b.inputCount);
  b.output = elements(b.outputCount);
  double samples[BATCHES];
  long calls = (rounds + BATCHES - 1) / BATCHES;
  /* Batch -1 warms up, with as many calls as all others have. */
  for (int batch = -1; batch < BATCHES; batch++) {
    long now = batch < 0 ? rounds : calls;
    fill(operation, &b, batch + 1);
    MPI_Barrier(MPI_COMM_WORLD);
    double started = MPI_Wtime();
    for (long i = 0; i < now; i++) call(operation, &b, count);
    double seconds = (MPI_Wtime() - started) / now, slowest;
    MPI_Allreduce(&seconds, &slowest, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
    if (batch >= 0) samples[batch] = slowest;
    for (long i = 0; i < b.outputCount; i++) {
      float want = expected(operation, i, count, batch + 1);
      if (b.output[i] != want) fail("wrong data", names[operation], i, b.output[i], want);
    }
  }
  free(b.input);
  free(b.output);
  qsort(samples, BATCHES, sizeof(double), ascending);
  return samples[BATCHES / 2];
}

int main(int argc, char **argv) {
  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  if (argc < 4 || (argc - 1) % 3 != 0) {
    if (rank == 0) fprintf(stderr, "usage: mpi-peer [name bytes rounds]...\n");
    MPI_Finalize();
    return 2;
  }
  if (rank == 0) printf("[");
  for (int at = 1; at < argc; at += 3) {
    int operation = 0;
    while (operation <= BROADCAST && strcmp(names[operation], argv[at]) != 0) operation++;
    if (operation > BROADCAST) {
      if (rank == 0) fprintf(stderr, "mpi-peer: no collective is called %s\n", argv[at]);
      MPI_Abort(MPI_COMM_WORLD, 2);
    }
    long bytes = atol(argv[at + 1]), rounds = atol(argv[at + 2]);
    double seconds = timeCase(operation, bytes, rounds);
    if (rank == 0) {
      printf("%s{\"name\":\"%s\",\"bytes\":%ld,\"seconds\":%.9g}", at > 1 ? "," : "", argv[at], bytes, seconds);
    }
  }
  if (rank == 0) printf("]\n");
  MPI_Finalize();
  return 0;
}
