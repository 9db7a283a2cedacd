/*
 * The sequence-word protocol of libs/dist-groups, as a model for Spin: src/transport/shared-memory/shared-memory-transport.ts,
 * src/collectives/, src/group/collective-run.ts, and what the host does to change a group's generation.
 *
 * What is modelled. Ranks run collectives of unknown kinds. A control block holds, per rank, a progress word, a sleeper
 * count and two slots, and one abort word. A rank fills its slot, publishes by storing its progress word, looks for
 * sleepers, and waits for every peer: looks, counts itself as a sleeper, looks again, parks. A collective is
 *   STAGED     one round, read from the slots
 *   DIRECT     the peers' tensors are read where they lie, then acknowledged by a second round
 *   REDUCE     all-reduce in place: fold chunk r of all tensors into rank r's, gather, acknowledge: three rounds
 * Between collectives a rank changes its tensors as it likes. Each atomic operation of the code is a step of its own
 * (the notifies of an abort are one step, and a mere look that finds the awaited value is one with acting on it).
 * Plain stores and loads take time: a cell is TORN from the first store until the writer is done, and a reader looks at
 * the start and at the end of its read. (No value returns, so that finds every overlap of a read and a write.) That plain
 * stores before an Atomics.store are seen after the Atomics.load that reads it is the memory model of the language.
 *
 * Parks have no slices and no deadline: a wake-up that is lost is a deadlock. There is one exception. An abort changes no
 * word that a rank can park on, so its notify may come between a rank's last look at the abort word and its park; so may
 * that of a rank that left. There the slices are needed, and a park may end by itself once the group is aborted or the
 * peer has left, and not before. NO_SLICES takes that away.
 *
 * What is proved, by the absence of invalid end states and of failed assertions:
 *   no deadlock, no lost wake-up                     every rank comes out of every collective
 *   no read before publication or after reuse        the assertions of `look`
 *   a collective that returns has read good data     also when an abort races its completion: the assertion where it returns
 *   abort reaches every waiter                       no rank stays parked in an aborted group
 *   old generations do not touch new ones            the assertions of `touch`
 *   progress words may wrap around                   they start just below the end of their range
 *
 * Bounds: RANKS, COLLECTIVES per generation, GENERATIONS, FAULTS (how many things go wrong), KINDS (which kinds occur).
 * Mutations that must be caught: NO_RECHECK, NO_ACKNOWLEDGEMENT, NO_GENERATION_TEST, NO_FINAL_ABORT_CHECK, NO_SLICES.
 */

#ifndef RANKS
#define RANKS 2
#endif
#ifndef COLLECTIVES
#define COLLECTIVES 2
#endif
#ifndef GENERATIONS
#define GENERATIONS 1
#endif
#ifndef FAULTS
#define FAULTS 0
#endif

#define STAGED 1
#define DIRECT 2
#define REDUCE 3
/* How many kinds of collectives occur: 1 to 3. */
#ifndef KINDS
#define KINDS 3
#endif

#if GENERATIONS > 1
#define BLOCKS 2
/* Methods start when the host says so. */
#define FIRST_METHOD NOBODY
#else
#define BLOCKS 1
/* The one method is running already. */
#define FIRST_METHOD 0
#endif

#define NOBODY 255
#define TORN 255
/* Progress words are bytes here, and start so that they wrap around. */
#define FIRST_PROGRESS 254
#define REACHED(word, target) ((((word) - (target) + 256) & 255) < 128)

#define BLOCK(generation) ((generation) % BLOCKS)
#define WORD(block, rank) ((block) * RANKS + (rank))
/* The progress word that a rank looks at in its `step`. */
#define PEER_WORD WORD(block, (me + step) % RANKS)
#define SLOT(block, rank, sequence) (2 * WORD(block, rank) + ((sequence) & 1))
#define CELL(rank, chunk) ((rank) * RANKS + (chunk))
/* What a cell holds: the input and the output of a collective, told apart from those of all others. */
#define INPUT(generation, sequence) (2 * ((generation) * COLLECTIVES + (sequence)) + 1)
#define OUTPUT(generation, sequence) (INPUT(generation, sequence) + 1)

/* Control blocks. */
byte progress[BLOCKS * RANKS] = FIRST_PROGRESS;
byte sleepers[BLOCKS * RANKS];
byte slot[2 * BLOCKS * RANKS] = TORN;
bit aborted[BLOCKS];
/* The generation that a block belongs to. Not in the code: for the proof only. */
byte owner[BLOCKS] = NOBODY;

/* Every rank's tensor, one cell per chunk. */
byte tensor[RANKS * RANKS] = TORN;

/* 1 + the word that a rank is parked on. */
byte parked[RANKS];
/* Rank status: it failed or exited. */
bit left[RANKS];
/* A rank that was terminated does nothing more. */
bit killed[RANKS];
byte faults = 0;

/* Messages from the host to a rank's event loop: start a method, join the next generation. */
bit start[RANKS];
bit join[RANKS];

/* The kind of every collective, the same in all generations. */
byte kinds[COLLECTIVES];

/* Every write to a control block: by a rank of the generation that owns it. */
inline touch() { assert(owner[block] == method) }

inline notify(word) {
  d_step {
    n = 0;
    do
    :: n < RANKS && parked[n] == 1 + (word) -> parked[n] = 0; n++
    :: n < RANKS && parked[n] != 1 + (word) -> n++
    :: n == RANKS -> n = 0; break
    od
  }
}

/* Sets the abort word, then wakes everybody who is parked on a word of the block. */
inline abort(b) {
  aborted[b] = 1;
  d_step {
    n = 0;
    do
    :: n < RANKS && parked[n] > WORD(b, 0) && parked[n] <= WORD(b, RANKS) -> parked[n] = 0; n++
    :: n < RANKS && !(parked[n] > WORD(b, 0) && parked[n] <= WORD(b, RANKS)) -> n++
    :: n == RANKS -> n = 0; break
    od
  }
}

/* One look at what this rank reads in this round. Wrong data are an error at once unless the group is aborted. */
inline look() {
  n = 0;
  do
  :: n == RANKS -> n = 0; break
  :: n < RANKS ->
    if
    :: n == me
    :: else ->
      /* The header is compared in round 0, whatever the kind; staged data lie beside it. */
      assert(round > 0 || slot[SLOT(block, n, sequence)] == INPUT(method, sequence));
      if
      :: kind == DIRECT && round == 0 && tensor[CELL(n, 0)] != INPUT(method, sequence) -> bad = 1
      :: kind == REDUCE && round == 0 && tensor[CELL(n, me)] != INPUT(method, sequence) -> bad = 1
      :: kind == REDUCE && round == 1 && tensor[CELL(n, n)] != OUTPUT(method, sequence) -> bad = 1
      :: else
      fi;
      assert(!bad || aborted[block])
    fi;
    n++
  od
}

/* Cells of this rank's tensor that it writes while it reads: `value` is TORN, then OUTPUT. */
inline writeResult(value) {
  if
  :: kind == REDUCE && round == 0 -> tensor[CELL(me, me)] = value
  :: kind == REDUCE && round == 1 ->
    n = 0;
    do
    :: n < RANKS && n != me -> tensor[CELL(me, n)] = value; n++
    :: n < RANKS && n == me -> n++
    :: n == RANKS -> n = 0; break
    od
  :: else
  fi
}

/* The program fills its tensor for the next collective (INPUT), or does what it likes with it (TORN). */
inline fillTensor(value) {
  n = 0;
  do
  :: n < RANKS && (kind == REDUCE || (kind == DIRECT && n == 0)) -> tensor[CELL(me, n)] = value; n++
  :: n < RANKS && !(kind == REDUCE || (kind == DIRECT && n == 0)) -> n++
  :: n == RANKS -> n = 0; break
  od
}

#ifdef NO_ACKNOWLEDGEMENT
#define LAST_ROUND (kind == REDUCE -> 1 : 0)
#else
#define LAST_ROUND (kind - 1)
#endif

proctype Rank(byte me) {
  byte generation = 0;
  /* The generation whose group the running method uses; it keeps using it whatever has been joined since. */
  byte method = FIRST_METHOD;
  byte own = FIRST_PROGRESS;
  byte block, sequence, kind, round, step, word, seen, n;
  bit bad;

#if FAULTS > 0
  {
#endif
end_eventLoop:
  do
#if GENERATIONS > 1
  :: atomic { method == NOBODY && start[me] -> start[me] = 0; method = generation; block = BLOCK(generation);
              sequence = 0; own = FIRST_PROGRESS }
  /* Between collectives, or in a method that awaits something. A method not started yet would find its group aborted. */
  :: atomic { join[me] -> join[me] = 0; start[me] = 0; generation++ }
#endif
#if FAULTS > 0 && GENERATIONS == 1
  /* The program throws: the rank marks itself as having left, then nudges those who are parked on it. */
  :: atomic { method != NOBODY && faults < FAULTS -> faults++; left[me] = 1 };
    notify(WORD(block, me));
    atomic { method = NOBODY; block = 0; sequence = 0; own = 0 }
#endif
  :: atomic {
      /* begin */
      method != NOBODY ->
#ifndef NO_GENERATION_TEST
      if
      :: generation != method -> goto fail
      :: else
      fi;
#endif
      if
      :: aborted[block] -> goto fail
      :: else
      fi;
      /* The plain stores begin here at the earliest. */
      touch();
      slot[SLOT(block, me, sequence)] = TORN;
      kind = kinds[sequence];
      fillTensor(INPUT(method, sequence))
    };

publish:
    atomic {
      touch();
      if
      :: round == 0 -> slot[SLOT(block, me, sequence)] = INPUT(method, sequence)
      :: else
      fi;
      own = (own + 1) & 255;
      step = 1;
      progress[WORD(block, me)] = own
    };
    if
    :: sleepers[WORD(block, me)] != 0 -> notify(WORD(block, me))
    :: else
    fi;

    /* awaitPeers */
    do
    :: atomic { step < RANKS && REACHED(progress[PEER_WORD], own) -> step++ }
    :: atomic { step < RANKS && !REACHED(progress[PEER_WORD], own) -> word = PEER_WORD };
park:
      atomic { touch(); sleepers[word]++ };
      seen = progress[word];
      if
#ifdef NO_RECHECK
      :: aborted[block]
#else
      :: REACHED(seen, own) || aborted[block]
#endif
      :: else ->
        /* Atomics.wait compares and parks in one step. */
        d_step {
          if
          :: progress[word] == seen -> parked[me] = 1 + word
          :: else
          fi
        };
        if
        :: parked[me] == 0
#ifndef NO_SLICES
        :: atomic { parked[me] != 0 && (aborted[block] || left[word % RANKS]) -> parked[me] = 0 }
#endif
#if FAULTS > 0
        /* The deadline passes. */
        :: atomic { parked[me] != 0 && faults < FAULTS -> faults++; parked[me] = 0; touch() };
          if
          :: REACHED(progress[word], own)
          :: else -> abort(block)
          fi
#endif
        fi
      fi;
      d_step { touch(); seen = 0; sleepers[word]-- };
      if
      :: REACHED(progress[word], own)
      :: else ->
        if
        :: aborted[block] -> goto fail
        :: else
        fi;
#if FAULTS > 0 && GENERATIONS == 1
        if
        :: left[word % RANKS] ->
          /* It may have published just before it left. */
          if
          :: REACHED(progress[word], own)
          :: else -> touch(); abort(block); goto fail
          fi
        :: else -> goto park
        fi
#else
        goto park
#endif
      fi;
      atomic { word = 0; step++ }
    :: atomic { step == RANKS -> step = 0; break }
    od;

    /* advance */
    if
    :: atomic { kind != STAGED && round == kind - 1 -> skip }
    :: atomic {
        !(kind != STAGED && round == kind - 1) -> look(); writeResult(TORN)
      };
      /* The read ends where the acknowledgement is published, at the latest. */
      atomic {
        look();
        writeResult(OUTPUT(method, sequence));
        round++;
        if
        :: round <= LAST_ROUND -> goto publish
        :: else
        fi
      }
    fi;
    atomic {
#ifndef NO_FINAL_ABORT_CHECK
      if
      :: kind != STAGED && aborted[block] -> goto fail
      :: else
      fi;
#endif
      /* The collective returns; the program does what it likes with its tensor. */
      assert(!bad);
      fillTensor(TORN);
      sequence++;
      if
      :: sequence == COLLECTIVES -> method = NOBODY; block = 0; sequence = 0; own = 0
      :: else
      fi;
      kind = 0; round = 0
    };
    goto end_eventLoop;
fail:
    /* The collective throws, and so does the method. */
    atomic {
      fillTensor(TORN);
      method = NOBODY; block = 0; sequence = 0; own = 0; kind = 0; round = 0; word = 0; step = 0; seen = 0; bad = 0
    }
  od
#if FAULTS > 0
  } unless { killed[me] }
#endif
}

/* A new group of the same ranks in a free control block; its predecessor's block is free once every rank has joined. */
inline createGroup(g) {
  d_step {
    assert(owner[BLOCK(g)] == NOBODY);
    owner[BLOCK(g)] = g;
    aborted[BLOCK(g)] = 0;
    n = 0;
    do
    :: n < RANKS ->
      progress[WORD(BLOCK(g), n)] = FIRST_PROGRESS;
      sleepers[WORD(BLOCK(g), n)] = 0;
      n++
    :: n == RANKS -> n = 0; break
    od
  }
}

#define TELL_ALL(message) \
  d_step { \
    n = 0; \
    do \
    :: n < RANKS -> message[n] = 1; n++ \
    :: n == RANKS -> n = 0; break \
    od \
  }

#if RANKS == 2
#define ALL_JOINED (!join[0] && !join[1])
#elif RANKS == 3
#define ALL_JOINED (!join[0] && !join[1] && !join[2])
#else
#define ALL_JOINED (!join[0] && !join[1] && !join[2] && !join[3])
#endif

proctype Host() {
  byte current = 0;
  byte n;

  do
  :: true ->
#if GENERATIONS > 1
    TELL_ALL(start);
#endif
    if
    :: current == GENERATIONS - 1 -> break
    :: else
    fi;
    /* The call is given up at some moment, whatever the ranks are doing. */
    abort(BLOCK(current));
    createGroup(current + 1);
    TELL_ALL(join);
    ALL_JOINED;
    d_step { owner[BLOCK(current)] = NOBODY; current++ }
  od;

#if FAULTS > 0
end_faults:
  do
  :: atomic { faults < FAULTS -> faults++ };
    if
    /* Interruption, or closing. */
    :: abort(BLOCK(current))
#if GENERATIONS == 1
    /* A rank is terminated, wherever it is. The host sees it later. */
    :: select(n : 0 .. RANKS - 1); killed[n] = 1; left[n] = 1; n = 0; abort(BLOCK(current))
#endif
    fi
  od
#endif
}

init {
  byte n = 0;
  atomic {
    do
    :: n < COLLECTIVES ->
      if
      :: kinds[n] = STAGED
#if KINDS > 1
      :: kinds[n] = DIRECT
#endif
#if KINDS > 2
      :: kinds[n] = REDUCE
#endif
      fi;
      n++
    :: n == COLLECTIVES -> n = 0; break
    od;
    owner[0] = 0;
    do
    :: n < RANKS -> run Rank(n); n++
    :: n == RANKS -> n = 0; break
    od;
    run Host()
  }
}
