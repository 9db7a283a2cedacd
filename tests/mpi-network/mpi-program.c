/*
 * What the tests of the network run on its hosts.
 *
 *   mpi-program exchange BYTES           every rank sends BYTES to the next one, and all add up
 *   mpi-program ping-pong BYTES ROUNDS   ranks 0 and 1 send BYTES to and fro
 *   mpi-program rounds FILE              an all-reduce every 10 ms, until FILE is there; rank 0 prints `round K` each
 *                                        time
 *   mpi-program idle                     rank 0 prints `idle` when all have started; nothing more comes, and no end
 *
 * Rank 0 prints one line of JSON at the end of the first two. Wrong data end the job with exit code 3.
 */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NAME_BYTES 128

static int rank, size;

static unsigned char *bytes_of(long bytes) {
  unsigned char *data = malloc((size_t)bytes + 1);
  if (data == NULL) MPI_Abort(MPI_COMM_WORLD, 2);
  return data;
}

/* Byte i of what a rank sends in a round. */
static unsigned char pattern(int sender, int round, long i) {
  return (unsigned char)(sender * 37 + round * 11 + i * 7 + i / 251);
}

static void fill(unsigned char *data, long bytes, int round) {
  for (long i = 0; i < bytes; i++) data[i] = pattern(rank, round, i);
}

static void check(const unsigned char *data, long bytes, int sender, int round) {
  for (long i = 0; i < bytes; i++) {
    if (data[i] == pattern(sender, round, i)) continue;
    fprintf(stderr, "rank %d: byte %ld of round %d from rank %d is wrong\n", rank, i, round, sender);
    MPI_Abort(MPI_COMM_WORLD, 3);
  }
}

/* The sum over all ranks of (rank + 1) * round, checked. */
static void check_sum(int round) {
  double mine = (double)(rank + 1) * round, sum = 0;
  MPI_Allreduce(&mine, &sum, 1, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
  double expected = (double)size * (size + 1) / 2 * round;
  if (sum == expected) return;
  fprintf(stderr, "rank %d: the sum of round %d is %g instead of %g\n", rank, round, sum, expected);
  MPI_Abort(MPI_COMM_WORLD, 3);
}

static void exchange(long bytes) {
  unsigned char *sent = bytes_of(bytes), *received = bytes_of(bytes);
  int next = (rank + 1) % size, previous = (rank + size - 1) % size;
  fill(sent, bytes, 1);
  memset(received, 0, (size_t)bytes);
  MPI_Sendrecv(sent, (int)bytes, MPI_BYTE, next, 1, received, (int)bytes, MPI_BYTE, previous, 1, MPI_COMM_WORLD,
               MPI_STATUS_IGNORE);
  check(received, bytes, previous, 1);
  check_sum(5);

  /* Where the ranks are: the host's name and the network namespace, as `net:[NUMBER]`. */
  char mine[2 * NAME_BYTES] = {0}, *all = calloc((size_t)size, sizeof mine);
  gethostname(mine, NAME_BYTES - 1);
  if (readlink("/proc/self/ns/net", mine + NAME_BYTES, NAME_BYTES - 1) < 0) MPI_Abort(MPI_COMM_WORLD, 2);
  MPI_Gather(mine, sizeof mine, MPI_BYTE, all, sizeof mine, MPI_BYTE, 0, MPI_COMM_WORLD);
  if (rank != 0) return;
  printf("[");
  for (int r = 0; r < size; r++) {
    const char *its = all + (size_t)r * sizeof mine;
    printf("%s{\"rank\":%d,\"host\":\"%s\",\"namespace\":\"%s\"}", r == 0 ? "" : ",", r, its, its + NAME_BYTES);
  }
  printf("]\n");
}

static void ping_pong(long bytes, int rounds) {
  unsigned char *data = bytes_of(bytes);
  double shortest = 1e9;
  for (int round = 0; round < rounds; round++) {
    if (rank == 0) {
      fill(data, bytes, round);
      double start = MPI_Wtime();
      MPI_Send(data, (int)bytes, MPI_BYTE, 1, 1, MPI_COMM_WORLD);
      MPI_Recv(data, (int)bytes, MPI_BYTE, 1, 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
      double took = MPI_Wtime() - start;
      if (took < shortest) shortest = took;
      check(data, bytes, 1, round);
    } else if (rank == 1) {
      MPI_Recv(data, (int)bytes, MPI_BYTE, 0, 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
      check(data, bytes, 0, round);
      fill(data, bytes, round);
      MPI_Send(data, (int)bytes, MPI_BYTE, 0, 1, MPI_COMM_WORLD);
    }
  }
  if (rank == 0) printf("{\"shortestMs\":%.6f}\n", shortest * 1e3);
}

static void rounds(const char *file) {
  for (int round = 1, is_last = 0; !is_last; round++) {
    check_sum(round);
    if (rank == 0) {
      printf("round %d\n", round);
      fflush(stdout);
      is_last = access(file, F_OK) == 0;
    }
    MPI_Bcast(&is_last, 1, MPI_INT, 0, MPI_COMM_WORLD);
    usleep(10000);
  }
}

static void idle(void) {
  MPI_Barrier(MPI_COMM_WORLD);
  if (rank == 0) {
    printf("idle\n");
    fflush(stdout);
  }
  for (;;) pause();
}

/*
 * Ends the job. MPI_Finalize of MPICH 4.0.2 over UCX's TCP often waits for ever: a rank that has closed its connections
 * waits for the launcher's barrier, and no longer answers those that still close theirs (mended in later MPICH, in
 * https://github.com/pmodels/mpich/pull/6596). There a rank says goodbye to the launcher by itself, in PMI's words.
 */
static void leave(void) {
#ifdef MPICH_VERSION
  static const char goodbye[] = "cmd=finalize\n";
  const char *launcher = getenv("PMI_FD");
  if (launcher != NULL) {
    char answer[64];
    MPI_Barrier(MPI_COMM_WORLD);
    fflush(NULL);
    int wrote = (int)write(atoi(launcher), goodbye, sizeof goodbye - 1);
    if (wrote != (int)sizeof goodbye - 1 || read(atoi(launcher), answer, sizeof answer) <= 0) _exit(2);
    _exit(0);
  }
#endif
  MPI_Finalize();
}

int main(int count, char **words) {
  MPI_Init(&count, &words);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  const char *what = count > 1 ? words[1] : "";
  if (count == 3 && strcmp(what, "exchange") == 0) exchange(atol(words[2]));
  else if (count == 4 && strcmp(what, "ping-pong") == 0) ping_pong(atol(words[2]), atoi(words[3]));
  else if (count == 3 && strcmp(what, "rounds") == 0) rounds(words[2]);
  else if (count == 2 && strcmp(what, "idle") == 0) idle();
  else {
    fprintf(stderr, "mpi-program: exchange BYTES, ping-pong BYTES ROUNDS, rounds FILE or idle were expected\n");
    MPI_Abort(MPI_COMM_WORLD, 2);
  }
  leave();
  return 0;
}
