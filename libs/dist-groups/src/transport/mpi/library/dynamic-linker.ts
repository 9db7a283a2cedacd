// The system's own loader of libraries, and what else of the C library is needed, by FFI. The runtimes' `dlopen` will
// not do for MPI: OpenMPI loads plugins that need its symbols, so it has to be loaded for all to see (RTLD_GLOBAL), and
// its handles are addresses of variables.

import { platformName } from "@lockstep/tensor";
import { MpiUnsuitable } from "../../../errors/mpi-errors.ts";
import { type NativeCalls, type NativeFunction, nativeCalls, type Signature } from "./native-calls.ts";

const RTLD_NOW = 2;
const RTLD_GLOBAL = { linux: 0x100, darwin: 8 };
const C_LIBRARIES = {
  linux: ["libc.so.6", "libc.musl-x86_64.so.1", "libc.musl-aarch64.so.1"],
  darwin: ["libSystem.B.dylib"],
};
/** Longest text that is read from native memory. */
const MOST_TEXT_BYTES = 4096;

const FUNCTIONS = {
  dlopen: { args: ["usize", "i32"], returns: "usize" },
  dlsym: { args: ["usize", "usize"], returns: "usize" },
  dlerror: { args: [], returns: "usize" },
  memcpy: { args: ["usize", "usize", "usize"], returns: "usize" },
  strnlen: { args: ["usize", "usize"], returns: "usize" },
  getenv: { args: ["usize"], returns: "usize" },
  setenv: { args: ["usize", "usize", "i32"], returns: "i32" },
  getpid: { args: [], returns: "i32" },
  write: { args: ["i32", "usize", "usize"], returns: "usize" },
  read: { args: ["i32", "usize", "usize"], returns: "usize" },
} as const satisfies Readonly<Record<string, Signature>>;

type CFunctions = Readonly<Record<keyof typeof FUNCTIONS, NativeFunction<number | bigint>>>;

/** A library that was loaded, or why it was not. */
export type Loaded = { readonly library: number } | { readonly error: string };

/** The system's loader, and its memory. */
export interface DynamicLinker {
  /** Loads a library for all code of the process to see. It stays loaded until the process ends. */
  load(library: string): Loaded;
  /** Address of a function or variable of a loaded library, or of those that it depends on; 0 when there is none. */
  address(library: number, symbol: string): number;
  /** The C `int` at an address. */
  intAt(address: number): number;
  /** A variable of C's environment, which has what the process was started with; undefined when it is not set. */
  variable(name: string): string | undefined;
  /** Sets a variable of C's environment, which libraries read, unless it is set. */
  setDefault(variable: string, value: string): void;
  /** Id of this process. */
  processId(): number;
  /** Writes a text to an open file, by its number, and waits for what comes in return; nothing when either fails. */
  ask(file: number, text: string): string;
}

/**
 * Opens the system's loader.
 * @throws MpiUnsuitable where native code cannot be called
 */
export function openDynamicLinker(native: NativeCalls = nativeCalls()): DynamicLinker {
  const system = platformName() === "darwin" ? "darwin" : "linux";
  const c = cLibrary(native, C_LIBRARIES[system]);
  const { dlopen, dlsym, dlerror, memcpy, strnlen, getenv, setenv } = c;
  const copy = (address: number, bytes: number): Uint8Array<ArrayBuffer> => {
    const target = new Uint8Array(new ArrayBuffer(bytes));
    memcpy(native.addressOf(target.buffer), address, bytes);
    return target;
  };
  const textAt = (address: number): string =>
    new TextDecoder().decode(copy(address, Number(strnlen(address, MOST_TEXT_BYTES))));
  return {
    load(library) {
      const name = cString(library);
      const handle = Number(dlopen(native.addressOf(name), RTLD_NOW | RTLD_GLOBAL[system]));
      if (handle !== 0) return { library: handle };
      const error = Number(dlerror());
      return { error: error === 0 ? "it cannot be loaded" : textAt(error) };
    },
    address: (library, symbol) => Number(dlsym(library, native.addressOf(cString(symbol)))),
    intAt: (address) => new DataView(copy(address, 4).buffer).getInt32(0, true),
    variable(name) {
      const address = Number(getenv(native.addressOf(cString(name))));
      return address === 0 ? undefined : textAt(address);
    },
    setDefault(variable, value) {
      const name = cString(variable);
      const text = cString(value);
      setenv(native.addressOf(name), native.addressOf(text), 0);
    },
    processId: () => Number(c.getpid()),
    ask(file, text) {
      const sent = cString(text);
      const length = sent.byteLength - 1;
      if (Number(c.write(file, native.addressOf(sent), length)) !== length) return "";
      const answer = new ArrayBuffer(MOST_TEXT_BYTES);
      const bytes = Number(c.read(file, native.addressOf(answer), MOST_TEXT_BYTES));
      // A failure is -1, which has more bits as an unsigned number.
      return bytes > MOST_TEXT_BYTES ? "" : new TextDecoder().decode(new Uint8Array(answer, 0, bytes));
    },
  };
}

/** The text as C has it, ended by a zero. */
function cString(text: string): ArrayBuffer {
  const bytes = new TextEncoder().encode(`${text}\0`);
  const buffer = new ArrayBuffer(bytes.byteLength);
  new Uint8Array(buffer).set(bytes);
  return buffer;
}

function cLibrary(native: NativeCalls, names: readonly string[]): CFunctions {
  const failures: unknown[] = [];
  for (const name of names) {
    try {
      const functions = native.load(name, FUNCTIONS);
      if (isComplete(functions)) return functions;
    } catch (error) {
      failures.push(error);
    }
  }
  throw new MpiUnsuitable(`the system's C library cannot be called (tried ${names.join(", ")})`, failures[0]);
}

function isComplete(functions: object): functions is CFunctions {
  return Object.keys(FUNCTIONS).every((name) => typeof Reflect.get(functions, name) === "function");
}
