// Starts and ends MPI in a process. Main thread only; other threads call `attachMpi`.

import { MpiUnsuitable } from "../../../errors/mpi-errors.ts";
import type { MpiAbi } from "./abi.ts";
import { AttachedMpi, mpiFailed } from "./attached-mpi.ts";
import { CallArea } from "./call-area.ts";
import { type DynamicLinker, openDynamicLinker } from "./dynamic-linker.ts";
import { hasEnded, noteEnd } from "./ended.ts";
import { abiNamed, findLibrary } from "./find-library.ts";
import { keepSignals } from "./keep-signals.ts";
import { environment, type Launched, launched } from "./launched.ts";
import { leaveMpich } from "./leave-mpich.ts";
import type { MpiHandles } from "./mpi.ts";
import { type MpiFunctions, mpiFunctions } from "./mpi-functions.ts";
import { nativeCalls } from "./native-calls.ts";
import { selfTest } from "./self-test.ts";

/** What the standard promises at least. */
const LEAST_TAG_LIMIT = 32_767;

/**
 * Loads MPI and starts it, for all threads of this process to call. Every process of the launch calls it once, on its
 * main thread; it returns when all have.
 * @param options `library`: file name or path of the MPI library; else LOCKSTEP_MPI_LIBRARY of the environment names
 *   it, else it is the first that is found, the launcher's before others
 * @throws MpiNotFound when no library can be loaded
 * @throws MpiUnsuitable when it cannot serve: no calls from several threads, not the launcher's own, a failed self-test
 * @throws MpiFailed when MPI reports an error
 */
export function initMpi(options: { readonly library?: string } = {}): MpiHandles {
  const native = nativeCalls();
  const linker = openDynamicLinker(native);
  // Where native code may be called at all, C's environment is open as well.
  const read = environment((name) => linker.variable(name));
  keepSignals(linker);
  const { name, abi } = findLibrary(linker, read, options.library);
  const functions = mpiFunctions(native, name, abi.handle);
  const area = new CallArea(native, abi);
  const call = caller(functions, area);

  startThreads(linker, functions, area, abi, name);
  call("MPI_Comm_set_errhandler", abi.world, abi.errorsReturn);
  call("MPI_Comm_set_errhandler", abi.self, abi.errorsReturn);
  call("MPI_Comm_rank", abi.world, area.countAddress);
  const rank = area.count;
  call("MPI_Comm_size", abi.world, area.countAddress);
  const size = area.count;
  call("MPI_Get_library_version", area.textAddress, area.countAddress);
  const version = firstLine(area.text);
  try {
    checkWorld(launched(read), rank, size, `${name} (${version})`);
  } catch (error) {
    // With other processes it would wait for them.
    if (size === 1) functions.MPI_Finalize();
    throw error;
  }
  const tagLimit = readTagLimit(functions, area, abi, linker);
  const place = { rank, size, tagLimit };
  // Nobody sends on MPI_COMM_WORLD but the self-tests, each to its own process.
  selfTest(new AttachedMpi(native, functions, abi, { ...place, communicator: BigInt(abi.world) }));

  area.handle = 0n;
  call("MPI_Comm_dup", abi.world, area.handleAddress);
  // A handle that is an `int` may be negative.
  const communicator = abi.handle === "i32" ? BigInt.asIntN(32, area.handle) : area.handle;
  call("MPI_Comm_set_errhandler", Number(communicator), abi.errorsReturn);
  return { library: name, abi: abi.name, version, communicator, ...place };
}

/**
 * Ends MPI in this process, for good. May wait for all other processes to do the same, so call it only when all have
 * said goodbye, and no thread of this process calls MPI any more.
 * @throws MpiFailed when MPI reports an error
 */
export function finalizeMpi(handles: MpiHandles): void {
  const { linker, area, call } = running(handles);
  noteEnd(linker);
  if (leaveMpich(linker, handles)) return;
  area.handle = BigInt.asUintN(64, handles.communicator);
  call("MPI_Comm_free", area.handleAddress);
  call("MPI_Finalize");
}

/**
 * Ends all processes of the launch at once, this one included.
 * @param code exit code for the launcher, 1 to 255
 * @throws MpiFailed when MPI reports an error
 */
export function abortMpi(handles: MpiHandles, code: number): void {
  const { abi, call } = running(handles);
  call("MPI_Abort", abi.world, code);
}

type Call = (operation: keyof MpiFunctions, ...args: readonly number[]) => void;

/** Calls MPI, and throws what it reports. */
function caller(functions: MpiFunctions, area: CallArea): Call {
  return (operation, ...args) => {
    const code = functions[operation](...args);
    if (code !== 0) throw mpiFailed(functions, area, operation, code);
  };
}

/** MPICH tells how it was built on the lines after the first. */
function firstLine(text: string): string {
  const [line = ""] = text.replaceAll("\0", "").trim().split("\n");
  return line.replaceAll(/\s+/g, " ");
}

/** What calls of the main thread take. */
interface Running {
  readonly linker: DynamicLinker;
  readonly abi: MpiAbi;
  readonly area: CallArea;
  readonly call: Call;
}

function running(handles: MpiHandles): Running {
  const native = nativeCalls();
  const linker = openDynamicLinker(native);
  const abi = abiNamed(linker, handles.library, handles.abi);
  const area = new CallArea(native, abi);
  return { linker, abi, area, call: caller(mpiFunctions(native, handles.library, abi.handle), area) };
}

/** MPI_Init_thread, unless other code of this process has started MPI; refuses MPI that one thread alone may call. */
function startThreads(linker: DynamicLinker, functions: MpiFunctions, area: CallArea, abi: MpiAbi, name: string): void {
  const call = caller(functions, area);
  call("MPI_Finalized", area.flagAddress);
  if (area.flag || hasEnded(linker)) {
    throw new MpiUnsuitable("it was ended in this process before, and cannot start again: start a new process");
  }
  call("MPI_Initialized", area.flagAddress);
  if (area.flag) call("MPI_Query_thread", area.countAddress);
  else call("MPI_Init_thread", 0, 0, abi.threadMultiple, area.countAddress);
  if (area.count < abi.threadMultiple) {
    throw new MpiUnsuitable(
      `${name} lets fewer threads call it than are needed (level ${area.count}, and MPI_THREAD_MULTIPLE is ` +
        `${abi.threadMultiple}): use one built with threads`,
    );
  }
}

/** Refuses a library that does not see the processes that its launcher started. */
function checkWorld(launch: Launched | undefined, rank: number, size: number, library: string): void {
  if (launch === undefined) return;
  const isSize = launch.size === undefined || launch.size === size;
  const isRank = launch.rank === undefined || launch.rank < size;
  if (isSize && isRank) return;
  const launcher = { openmpi: "OpenMPI's mpirun", pmi: "a launcher of MPICH's kind", pmix: "a PMIx launcher" };
  throw new MpiUnsuitable(
    `${launcher[launch.launcher]} started ${launch.size ?? "several"} processes ` +
      `(this is number ${launch.rank ?? "?"}), but ${library} sees ${size} (this as number ${rank}). The library is not the launcher's: start with the ` +
      "library's own mpirun, or set LOCKSTEP_MPI_LIBRARY to the launcher's library",
  );
}

function readTagLimit(functions: MpiFunctions, area: CallArea, abi: MpiAbi, linker: DynamicLinker): number {
  const call = caller(functions, area);
  area.handle = 0n;
  // Writes the address of the value.
  call("MPI_Comm_get_attr", abi.world, abi.tagUpperBound, area.handleAddress, area.flagAddress);
  const tagLimit = area.flag && area.handle !== 0n ? linker.intAt(Number(area.handle)) : 0;
  if (tagLimit < LEAST_TAG_LIMIT) {
    throw new MpiUnsuitable(`it tells ${tagLimit} as its largest tag, and the standard promises ${LEAST_TAG_LIMIT}`);
  }
  return tagLimit;
}
