// What the transport needs of MPI: messages of bytes, none of which blocks. Start here; attach-mpi.ts implements it and
// init-mpi.ts starts and ends MPI in a process.

/** The three layouts of handles, constants and statuses that MPI libraries have. */
export type MpiAbiName = "openmpi" | "mpich" | "standard";

/** Bytes of the longest message: MPI counts in C's `int`. */
export const MOST_MESSAGE_BYTES = 0x7fff_ffff;

/**
 * What any thread of a process needs to call the MPI that its main thread started. Plain data: it can be posted to
 * workers of the same process, and has no meaning in another one.
 */
export interface MpiHandles {
  /** The library as the system's loader knows it: a file name or a path. */
  readonly library: string;
  /** Layout of its handles and statuses. */
  readonly abi: MpiAbiName;
  /** What the library says that it is, in one line, such as `Open MPI v4.1.4, ...`. */
  readonly version: string;
  /** What all messages go through: a duplicate of MPI_COMM_WORLD, so that no other code's meet them. */
  readonly communicator: bigint;
  /** Largest tag (MPI_TAG_UB). */
  readonly tagLimit: number;
  /** Rank of this process. */
  readonly rank: number;
  /** Number of processes. */
  readonly size: number;
}

/**
 * MPI as one thread calls it. Not to be shared between threads; each attaches its own. No method blocks. Every method
 * throws `MpiFailed` when MPI reports an error.
 */
export interface Mpi {
  /** Rank of this process. */
  readonly rank: number;
  /** Number of processes. */
  readonly size: number;
  /** Largest tag. */
  readonly tagLimit: number;
  /**
   * Address of the first byte of a buffer; 0 for one without bytes. It stays the same for as long as the buffer is
   * referenced, so compute it once. A WebAssembly memory that is not shared moves when it grows.
   */
  addressOf(buffer: ArrayBufferLike): number;
  /**
   * Starts to send. The bytes must stay referenced and unchanged until `test` is true.
   * @param address of the first byte, by {@link Mpi.addressOf} plus an offset
   * @param bytes how many, at most {@link MOST_MESSAGE_BYTES}
   * @param to rank of the process that receives
   * @returns a request: a small integer, valid on this thread until `test` is true
   * @throws ArgumentError when address or bytes cannot be
   */
  isend(address: number, bytes: number, to: number, tag: number): number;
  /**
   * Starts to receive the next message with this tag from a process. As {@link Mpi.isend}; the bytes are MPI's to write
   * until `test` is true, or `cancel` is. What is longer than `bytes` is cut off, and MPI need not tell (OpenMPI 4.1
   * does not within a process): receive what is certain to fit, or `probe` first.
   */
  irecv(address: number, bytes: number, from: number, tag: number): number;
  /**
   * Whether the request is done, which ends it, also when it throws. Call it again until then: this is what makes
   * MPI progress.
   */
  test(request: number): boolean;
  /**
   * Looks for a message with this tag from any process. When there is one, `probedSource` and `probedBytes` tell of it,
   * and `receiveProbed` must be called before the next `probe`: no other thread can receive it any more.
   */
  probe(tag: number): boolean;
  /** Rank of the process that sent what the last successful `probe` found. */
  readonly probedSource: number;
  /** Bytes of what the last successful `probe` found. */
  readonly probedBytes: number;
  /** Starts to receive what `probe` found. As {@link Mpi.irecv}. */
  receiveProbed(address: number, bytes: number): number;
  /**
   * Bytes that the last successful `test` of a receive brought; -1 when it was cancelled after `cancel` had been false.
   * Only right after it: the next `test`, `probe` or `cancel` forgets it.
   */
  readonly receivedBytes: number;
  /**
   * Gives up a receive that nobody will send to. True: it is cancelled, and the request is over. False: a message was
   * on its way into it, or MPI has not decided yet: test it on until it is done.
   */
  cancel(request: number): boolean;
  /** Requests that were started on this thread and have not ended. */
  readonly openRequests: number;
}
