/*
 * The C side of `bun run bench:mpi`: collectives over MPI, a window of calls at a time, whenever it is asked for one.
 *
 *   mpirun -n N mpi-windows SOCKET
 *
 * Every process connects to the Unix socket SOCKET and says "rank R". It then reads lines
 *
 *   WAY NAME BYTES CALLS BATCH
 *
 * and answers each by the seconds of a call, or by a line that begins with "wrong". Between windows it sleeps in read(),
 * and takes no core from the other side. BYTES counts as in cases.ts. WAY is
 *
 *   plain    the collective of MPI: MPI_Allgather and so on
 *   header   a header of 128 bytes to and from each peer, by MPI_Isend and MPI_Irecv; once all are here the data, by
 *            MPI_Isend and MPI_Irecv straight from the input to where it belongs. What reduces folds in rank order.
 *
 * NAME is a collective, or "ping-pong" (plain): BYTES to the next rank and back, of which it tells half.
 * Results are poisoned before each window, and every element is checked after it.
 */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define HEADER_BYTES 128
#define MOST_RANKS 64

static int rank, size;
static char headers[MOST_RANKS + 1][HEADER_BYTES];

static float *elements(long count) {
  float *data = NULL;
  if (posix_memalign((void **)&data, 128, (count > 0 ? count : 1) * sizeof(float)) != 0) {
    fprintf(stderr, "mpi-windows: no memory for %ld elements\n", count);
    MPI_Abort(MPI_COMM_WORLD, 1);
  }
  return data;
}

/* What rank r brings as element i: small integers, so that every sum is exact. As in openmpi/cases.ts. */
static float brought(int r, long i, int batch) { return (float)((r + 1) * 3 + (i * 7 + batch) % 61); }

enum operation { BARRIER, ALL_GATHER, REDUCE_SCATTER, ALL_REDUCE, ALL_TO_ALL, BROADCAST, PING_PONG, OPERATIONS };
static const char *const names[] = {"barrier",    "all-gather", "reduce-scatter", "all-reduce",
                                    "all-to-all", "broadcast",  "ping-pong"};

struct buffers {
  float *input, *output, *landing;
  long inputCount, outputCount;
};

static void plain(enum operation operation, struct buffers *b, long count) {
  long part = count / size;
  switch (operation) {
  case BARRIER: MPI_Barrier(MPI_COMM_WORLD); break;
  case ALL_GATHER: MPI_Allgather(b->input, count, MPI_FLOAT, b->output, count, MPI_FLOAT, MPI_COMM_WORLD); break;
  case REDUCE_SCATTER: MPI_Reduce_scatter_block(b->input, b->output, part, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD); break;
  case ALL_REDUCE: MPI_Allreduce(b->input, b->output, count, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD); break;
  case ALL_TO_ALL: MPI_Alltoall(b->input, part, MPI_FLOAT, b->output, part, MPI_FLOAT, MPI_COMM_WORLD); break;
  case BROADCAST: MPI_Bcast(b->output, count, MPI_FLOAT, 0, MPI_COMM_WORLD); break;
  default: break;
  }
}

/* Sends `count` elements to each peer and receives as many: from `given + peer * givenStep` to `taken + peer * takenStep`. */
static void exchange(const float *given, long givenStep, float *taken, long takenStep, long count) {
  MPI_Request requests[2 * MOST_RANKS];
  int open = 0;
  for (int peer = 0; peer < size; peer++)
    if (peer != rank) MPI_Irecv(taken + peer * takenStep, count, MPI_FLOAT, peer, 1, MPI_COMM_WORLD, &requests[open++]);
  for (int peer = 0; peer < size; peer++)
    if (peer != rank) MPI_Isend(given + peer * givenStep, count, MPI_FLOAT, peer, 1, MPI_COMM_WORLD, &requests[open++]);
  MPI_Waitall(open, requests, MPI_STATUSES_IGNORE);
}

static void exchangeHeaders(void) {
  MPI_Request requests[2 * MOST_RANKS];
  int open = 0;
  for (int peer = 0; peer < size; peer++)
    if (peer != rank)
      MPI_Irecv(headers[peer], HEADER_BYTES, MPI_BYTE, peer, 0, MPI_COMM_WORLD, &requests[open++]);
  for (int peer = 0; peer < size; peer++)
    if (peer != rank)
      MPI_Isend(headers[MOST_RANKS], HEADER_BYTES, MPI_BYTE, peer, 0, MPI_COMM_WORLD, &requests[open++]);
  MPI_Waitall(open, requests, MPI_STATUSES_IGNORE);
}

/* Folds chunk `rank` of all inputs, the peers' from the landing area, in rank order. */
static void fold(struct buffers *b, float *to, long part) {
  const float *first = rank == 0 ? b->input : b->landing;
  memcpy(to, first, part * sizeof(float));
  for (int peer = 1; peer < size; peer++) {
    const float *from = peer == rank ? b->input + rank * part : b->landing + peer * part;
    for (long i = 0; i < part; i++) to[i] += from[i];
  }
}

static void afterHeaders(enum operation operation, struct buffers *b, long count) {
  long part = count / size;
  exchangeHeaders();
  switch (operation) {
  case ALL_GATHER:
    exchange(b->input, 0, b->output, count, count);
    memcpy(b->output + rank * count, b->input, count * sizeof(float));
    break;
  case REDUCE_SCATTER:
    exchange(b->input, part, b->landing, part, part);
    fold(b, b->output, part);
    break;
  case ALL_REDUCE:
    exchange(b->input, part, b->landing, part, part);
    fold(b, b->output + rank * part, part);
    exchange(b->output + rank * part, 0, b->output, part, part);
    break;
  case ALL_TO_ALL:
    exchange(b->input, part, b->output, part, part);
    memcpy(b->output + rank * part, b->input + rank * part, part * sizeof(float));
    break;
  case BROADCAST: {
    MPI_Request requests[MOST_RANKS];
    int open = 0;
    if (rank != 0) MPI_Irecv(b->output, count, MPI_FLOAT, 0, 1, MPI_COMM_WORLD, &requests[open++]);
    else
      for (int peer = 1; peer < size; peer++)
        MPI_Isend(b->output, count, MPI_FLOAT, peer, 1, MPI_COMM_WORLD, &requests[open++]);
    MPI_Waitall(open, requests, MPI_STATUSES_IGNORE);
    break;
  }
  default: break;
  }
}

/* Ranks 0 and 1 send the output to and fro. */
static void pingPong(struct buffers *b, long count) {
  if (rank > 1) return;
  for (int turn = 0; turn < 2; turn++) {
    if (turn == rank) MPI_Send(b->output, count, MPI_FLOAT, 1 - rank, 2, MPI_COMM_WORLD);
    else MPI_Recv(b->output, count, MPI_FLOAT, 1 - rank, 2, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
  }
}

static float expected(enum operation operation, long i, long count, int batch) {
  long part = count / size;
  switch (operation) {
  case ALL_GATHER: return brought(i / count, i % count, batch);
  case ALL_TO_ALL: return brought(i / part, rank * part + i % part, batch);
  case BROADCAST: return brought(0, i, batch);
  case PING_PONG: return rank > 1 ? -1 : brought(0, i, batch);
  default: {
    float sum = 0;
    long at = operation == REDUCE_SCATTER ? rank * part + i : i;
    for (int r = 0; r < size; r++) sum += brought(r, at, batch);
    return sum;
  }
  }
}

static void window(int isPlain, enum operation operation, long bytes, long calls, int batch, char *answer, int room) {
  static struct buffers b;
  static long room_ = 0;
  long count = bytes / (long)sizeof(float);
  int sendsOutput = operation == BROADCAST || operation == PING_PONG;
  if (count * (size + 1) > room_) {
    free(b.input), free(b.output), free(b.landing);
    room_ = count * (size + 1);
    b = (struct buffers){elements(room_), elements(room_), elements(room_), 0, 0};
  }
  b.inputCount = sendsOutput || operation == BARRIER ? 0 : count;
  b.outputCount = operation == ALL_GATHER       ? count * size
                  : operation == REDUCE_SCATTER ? count / size
                  : operation == BARRIER        ? 0
                                                : count;
  for (long i = 0; i < b.inputCount; i++) b.input[i] = brought(rank, i, batch);
  for (long i = 0; i < b.outputCount; i++) b.output[i] = -1;
  if (sendsOutput && rank == 0)
    for (long i = 0; i < b.outputCount; i++) b.output[i] = brought(0, i, batch);
  MPI_Barrier(MPI_COMM_WORLD);
  double started = MPI_Wtime();
  for (long i = 0; i < calls; i++) {
    if (operation == PING_PONG) pingPong(&b, count);
    else if (isPlain) plain(operation, &b, count);
    else afterHeaders(operation, &b, count);
  }
  double seconds = (MPI_Wtime() - started) / calls;
  MPI_Barrier(MPI_COMM_WORLD);
  for (long i = 0; i < b.outputCount; i++) {
    float want = expected(operation, i, count, batch);
    if (b.output[i] == want) continue;
    snprintf(answer, room, "wrong data, rank %d, %s: element %ld is %g instead of %g\n", rank, names[operation], i,
             b.output[i], want);
    return;
  }
  snprintf(answer, room, "%.9g\n", operation == PING_PONG ? seconds / 2 : seconds);
}

int main(int argc, char **argv) {
  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  int line = socket(AF_UNIX, SOCK_STREAM, 0);
  if (argc == 2) strncpy(address.sun_path, argv[1], sizeof(address.sun_path) - 1);
  if (argc != 2 || size > MOST_RANKS || connect(line, (struct sockaddr *)&address, sizeof(address)) != 0) {
    fprintf(stderr, "usage: mpi-windows SOCKET, with %d processes at most\n", MOST_RANKS);
    MPI_Abort(MPI_COMM_WORLD, 2);
  }
  FILE *asked = fdopen(line, "r");
  char text[256], way[32], name[32];
  dprintf(line, "rank %d\n", rank);
  while (fgets(text, sizeof(text), asked) != NULL) {
    long bytes, calls;
    int batch, operation = 0;
    if (sscanf(text, "%31s %31s %ld %ld %d", way, name, &bytes, &calls, &batch) != 5) MPI_Abort(MPI_COMM_WORLD, 2);
    while (operation < OPERATIONS && strcmp(names[operation], name) != 0) operation++;
    if (operation == OPERATIONS) MPI_Abort(MPI_COMM_WORLD, 2);
    window(strcmp(way, "plain") == 0, operation, bytes, calls, batch, text, sizeof(text));
    dprintf(line, "%s", text);
  }
  MPI_Finalize();
  return 0;
}
