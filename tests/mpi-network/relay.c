/*
 * A switch with a delay: hands every Ethernet frame on after a fixed time, in the order in which frames came.
 *
 *   relay INTERFACE...
 *
 * Every interface is a port of the switch. Standard input takes lines `delay MICROSECONDS`, each answered by the same
 * line on standard output; the first line there is `ready`. Ends when standard input ends, so that it never outlives
 * the program that started it. What a port that is down should get is lost, as on a cable that is cut.
 *
 * Frames come and go by AF_PACKET sockets, with the header of virtio-net before them: that keeps the frames of up to
 * 64 KiB that TCP hands to a virtual interface whole, and checksums that no hardware has filled in yet valid.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_PORTS 64
#define MAX_ADDRESSES 256
#define MAX_FRAME (sizeof(struct virtio_net_hdr) + ETHER_HDR_LEN + 65536 + 64)
/* What may wait at a time; what comes beyond is lost, as in a switch whose memory is full. */
#define MAX_WAITING (256L << 20)
/* Frames taken from a port before the others have their turn. */
#define TURN 64

struct frame {
  struct frame *next;
  int64_t due; /* nanoseconds of the monotonic clock */
  int from;
  size_t bytes; /* with the virtio-net header */
  unsigned char data[];
};

static int ports[MAX_PORTS], port_count;
static struct frame *first, **end = &first;
static size_t waiting;
static int64_t delay;

/* Which port an address was last seen on: frames to it go there alone. */
static struct {
  unsigned char address[ETHER_ADDR_LEN];
  int port;
} seen[MAX_ADDRESSES];
static int seen_count;

static int64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void fail(const char *what, const char *which) {
  fprintf(stderr, "relay: %s %s: %s\n", what, which, strerror(errno));
  exit(1);
}

static int open_port(const char *name) {
  int port = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, htons(ETH_P_ALL));
  if (port < 0) fail("no packet socket for", name);
  int on = 1, buffer = 32 << 20;
  if (setsockopt(port, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof on) < 0) fail("no virtio-net header on", name);
  if (setsockopt(port, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof on) < 0) fail("own frames return on", name);
  if (setsockopt(port, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof buffer) < 0) fail("no receive buffer for", name);
  struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
  address.sll_ifindex = (int)if_nametoindex(name);
  if (address.sll_ifindex == 0) fail("no interface", name);
  if (bind(port, (struct sockaddr *)&address, sizeof address) < 0) fail("cannot bind to", name);
  return port;
}

static int find(const unsigned char *address) {
  for (int i = 0; i < seen_count; i++)
    if (memcmp(seen[i].address, address, ETHER_ADDR_LEN) == 0) return i;
  return -1;
}

static void learn(const unsigned char *address, int port) {
  int i = find(address);
  if (i < 0) {
    if (seen_count == MAX_ADDRESSES) return;
    i = seen_count++;
    memcpy(seen[i].address, address, ETHER_ADDR_LEN);
  }
  seen[i].port = port;
}

static void take_frames(int port) {
  static unsigned char buffer[MAX_FRAME];
  for (int i = 0; i < TURN; i++) {
    ssize_t bytes = recv(ports[port], buffer, sizeof buffer, MSG_TRUNC);
    /* Nothing more, or a port that went down: it reports that once, and works again when it is up. */
    if (bytes < 0) return;
    if ((size_t)bytes < sizeof(struct virtio_net_hdr) + ETHER_HDR_LEN || (size_t)bytes > sizeof buffer) continue;
    if (waiting + (size_t)bytes > MAX_WAITING) continue;
    struct frame *frame = malloc(sizeof *frame + (size_t)bytes);
    if (frame == NULL) continue;
    frame->next = NULL;
    frame->due = now() + delay;
    frame->from = port;
    frame->bytes = (size_t)bytes;
    memcpy(frame->data, buffer, (size_t)bytes);
    *end = frame;
    end = &frame->next;
    waiting += (size_t)bytes;
    learn(frame->data + sizeof(struct virtio_net_hdr) + ETHER_ADDR_LEN, port);
  }
}

static void hand_on(const struct frame *frame) {
  const unsigned char *to = frame->data + sizeof(struct virtio_net_hdr);
  int known = (to[0] & 1) ? -1 : find(to);
  for (int port = 0; port < port_count; port++) {
    if (port == frame->from || (known >= 0 && seen[known].port != port)) continue;
    while (send(ports[port], frame->data, frame->bytes, 0) < 0) {
      /* A full queue is waited for. Anything else, such as a port that is down, loses the frame. */
      if (errno != EAGAIN && errno != EINTR) break;
      struct pollfd writable = {.fd = ports[port], .events = POLLOUT};
      if (errno == EAGAIN && poll(&writable, 1, 100) == 0) break;
    }
  }
}

static void hand_on_due(void) {
  while (first != NULL && first->due <= now()) {
    struct frame *frame = first;
    first = frame->next;
    if (first == NULL) end = &first;
    waiting -= frame->bytes;
    hand_on(frame);
    free(frame);
  }
}

static void obey(void) {
  static char line[64];
  static size_t length;
  ssize_t bytes = read(0, line + length, sizeof line - 1 - length);
  if (bytes == 0) exit(0);
  if (bytes < 0) return;
  length += (size_t)bytes;
  line[length] = 0;
  char *after;
  while ((after = strchr(line, '\n')) != NULL) {
    *after = 0;
    long long microseconds;
    if (sscanf(line, "delay %lld", &microseconds) != 1 || microseconds < 0) {
      fprintf(stderr, "relay: \"delay MICROSECONDS\" was expected, \"%s\" came\n", line);
      exit(1);
    }
    delay = microseconds * 1000;
    printf("delay %lld\n", microseconds);
    fflush(stdout);
    length -= (size_t)(after + 1 - line);
    memmove(line, after + 1, length + 1);
  }
  if (length == sizeof line - 1) {
    fprintf(stderr, "relay: a line of over %zu characters came\n", length);
    exit(1);
  }
}

int main(int count, char **names) {
  port_count = count - 1;
  if (port_count < 1 || port_count > MAX_PORTS) {
    fprintf(stderr, "relay: 1 to %d interfaces were expected, %d came\n", MAX_PORTS, port_count);
    return 1;
  }
  struct pollfd polled[MAX_PORTS + 1];
  for (int i = 0; i < port_count; i++) {
    ports[i] = open_port(names[i + 1]);
    polled[i] = (struct pollfd){.fd = ports[i], .events = POLLIN};
  }
  polled[port_count] = (struct pollfd){.fd = 0, .events = POLLIN};
  printf("ready\n");
  fflush(stdout);
  for (;;) {
    int64_t left = first == NULL ? 0 : first->due - now();
    if (left < 0) left = 0;
    struct timespec until = {.tv_sec = left / 1000000000, .tv_nsec = left % 1000000000};
    if (ppoll(polled, (nfds_t)port_count + 1, first == NULL ? NULL : &until, NULL) < 0 && errno != EINTR)
      fail("cannot wait for", "frames");
    if (polled[port_count].revents != 0) obey();
    for (int i = 0; i < port_count; i++)
      if (polled[i].revents != 0) take_frames(i);
    hand_on_due();
  }
}
