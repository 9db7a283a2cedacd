// The messages of one thread, over the functions of MPI.

import { ArgumentError } from "@lockstep/tensor";
import { MpiFailed } from "../../../errors/mpi-errors.ts";
import type { MpiAbi } from "./abi.ts";
import { CallArea } from "./call-area.ts";
import { MOST_MESSAGE_BYTES, type Mpi, type MpiHandles } from "./mpi.ts";
import type { MpiFunctions } from "./mpi-functions.ts";
import type { NativeCalls } from "./native-calls.ts";
import { RequestKind, RequestTable } from "./request-table.ts";

/** Where a thread is attached: what of `MpiHandles` its messages need. */
export type MpiPlace = Pick<MpiHandles, "communicator" | "rank" | "size" | "tagLimit">;

/** {@link Mpi} over one library's functions. Nothing is allocated by its calls, errors and first-time growth aside. */
export class AttachedMpi implements Mpi {
  readonly rank: number;
  readonly size: number;
  readonly tagLimit: number;
  /** Where calls leave what they tell; the self-test looks into it. */
  readonly area: CallArea;
  probedSource = -1;
  probedBytes = 0;
  /** What {@link receivedBytes} is, unless it is still to be read from the status. */
  #received = 0;
  #isReceivedDue = false;
  readonly #native: NativeCalls;
  readonly #mpi: MpiFunctions;
  readonly #communicator: number;
  readonly #byte: number;
  readonly #anySource: number;
  readonly #table: RequestTable;
  /** Whether `area` holds a message that `probe` found and `receiveProbed` has not taken. */
  #hasProbed = false;

  constructor(native: NativeCalls, functions: MpiFunctions, abi: MpiAbi, place: MpiPlace) {
    this.rank = place.rank;
    this.size = place.size;
    this.tagLimit = place.tagLimit;
    this.area = new CallArea(native, abi);
    this.#native = native;
    this.#mpi = functions;
    this.#communicator = Number(place.communicator);
    this.#byte = abi.byte;
    this.#anySource = abi.anySource;
    this.#table = new RequestTable(native);
  }

  get openRequests(): number {
    return this.#table.taken;
  }

  addressOf(buffer: ArrayBufferLike): number {
    return this.#native.addressOf(buffer);
  }

  get receivedBytes(): number {
    if (this.#isReceivedDue) {
      this.#isReceivedDue = false;
      this.#received = this.#statusBytes();
    }
    return this.#received;
  }

  isend(address: number, bytes: number, to: number, tag: number): number {
    checkBytes("isend", address, bytes);
    const table = this.#table;
    const slot = table.take(RequestKind.send);
    const code = this.#mpi.MPI_Isend(address, bytes, this.#byte, to, tag, this.#communicator, table.addressOf(slot));
    if (code !== 0) this.#giveUp("MPI_Isend", code, slot);
    return slot;
  }

  irecv(address: number, bytes: number, from: number, tag: number): number {
    checkBytes("irecv", address, bytes);
    const table = this.#table;
    const slot = table.take(RequestKind.receive);
    const code = this.#mpi.MPI_Irecv(address, bytes, this.#byte, from, tag, this.#communicator, table.addressOf(slot));
    if (code !== 0) this.#giveUp("MPI_Irecv", code, slot);
    return slot;
  }

  test(request: number): boolean {
    const { area } = this;
    const table = this.#table;
    const kind = table.kind(request);
    this.#isReceivedDue = false;
    if (kind === RequestKind.none) throw noRequest("test", request);
    if (kind === RequestKind.over) {
      this.#received = table.bytesOf(request);
      table.release(request);
      return true;
    }
    const code = this.#mpi.MPI_Test(table.addressOf(request), area.flagAddress, area.statusAddress);
    if (code !== 0) this.#giveUp("MPI_Test", code, request);
    if (!area.flag) return false;
    // A send's status tells nothing.
    if (kind === RequestKind.receive) this.#isReceivedDue = true;
    else if (kind === RequestKind.cancelling) {
      this.#received = this.#wasCancelled(request) ? -1 : this.#statusBytes(request);
    }
    table.release(request);
    return true;
  }

  probe(tag: number): boolean {
    const { area } = this;
    if (this.#hasProbed) {
      throw new ArgumentError(
        "probe",
        "tag",
        "a call after receiveProbed took what the probe before it found",
        `tag ${tag} while ${this.probedBytes} bytes of process ${this.probedSource} wait`,
      );
    }
    this.#isReceivedDue = false;
    const code = this.#mpi.MPI_Improbe(
      this.#anySource,
      tag,
      this.#communicator,
      area.flagAddress,
      area.handleAddress,
      area.statusAddress,
    );
    if (code !== 0) throw this.#failed("MPI_Improbe", code);
    if (!area.flag) return false;
    // Before anything that could throw: the message is this thread's from here on.
    this.#hasProbed = true;
    this.probedSource = area.source;
    this.probedBytes = this.#statusBytes();
    return true;
  }

  receiveProbed(address: number, bytes: number): number {
    checkBytes("receiveProbed", address, bytes);
    if (!this.#hasProbed) {
      throw new ArgumentError("receiveProbed", "address", "a call after a probe that was true", "no such probe");
    }
    const { area } = this;
    const table = this.#table;
    const slot = table.take(RequestKind.receive);
    this.#hasProbed = false;
    const code = this.#mpi.MPI_Imrecv(address, bytes, this.#byte, area.handleAddress, table.addressOf(slot));
    if (code !== 0) this.#giveUp("MPI_Imrecv", code, slot);
    return slot;
  }

  cancel(request: number): boolean {
    const { area } = this;
    const table = this.#table;
    const kind = table.kind(request);
    if (kind === RequestKind.over || kind === RequestKind.cancelling) return false;
    if (kind !== RequestKind.receive) throw noRequest("cancel", request, "an open receive");
    this.#isReceivedDue = false;
    const cancelled = this.#mpi.MPI_Cancel(table.addressOf(request));
    if (cancelled !== 0) throw this.#failed("MPI_Cancel", cancelled);
    table.markCancelling(request);
    const code = this.#mpi.MPI_Test(table.addressOf(request), area.flagAddress, area.statusAddress);
    if (code !== 0) this.#giveUp("MPI_Test", code, request);
    if (!area.flag) return false;
    if (this.#wasCancelled(request)) {
      table.release(request);
      return true;
    }
    table.markOver(request, this.#statusBytes(request));
    return false;
  }

  /** MPI_Get_count of the status. An error ends the request that it belongs to. */
  #statusBytes(request?: number): number {
    const { area } = this;
    const code = this.#mpi.MPI_Get_count(area.statusAddress, this.#byte, area.countAddress);
    if (code !== 0) this.#giveUp("MPI_Get_count", code, request);
    return area.count;
  }

  #wasCancelled(request: number): boolean {
    const { area } = this;
    const code = this.#mpi.MPI_Test_cancelled(area.statusAddress, area.flagAddress);
    if (code !== 0) this.#giveUp("MPI_Test_cancelled", code, request);
    return area.flag;
  }

  #giveUp(operation: string, code: number, request?: number): never {
    if (request !== undefined) this.#table.release(request);
    throw this.#failed(operation, code);
  }

  #failed(operation: string, code: number): MpiFailed {
    return mpiFailed(this.#mpi, this.area, operation, code);
  }
}

/** The error that MPI's code stands for, in MPI's words. */
export function mpiFailed(functions: MpiFunctions, area: CallArea, operation: string, code: number): MpiFailed {
  const told = functions.MPI_Error_string(code, area.textAddress, area.countAddress) === 0;
  return new MpiFailed(operation, code, told ? area.text.trim() : "MPI does not tell what it stands for");
}

function checkBytes(operation: string, address: number, bytes: number): void {
  if (Number.isInteger(bytes) && bytes >= 0 && bytes <= MOST_MESSAGE_BYTES && (address > 0 || bytes === 0)) return;
  if (address > 0) {
    throw new ArgumentError(operation, "bytes", `an integer from 0 to ${MOST_MESSAGE_BYTES}`, String(bytes));
  }
  throw new ArgumentError(operation, "address", "the address of the bytes", String(address));
}

function noRequest(operation: string, request: number, expected = "an open request of this thread"): ArgumentError {
  return new ArgumentError(operation, "request", expected, String(request));
}
