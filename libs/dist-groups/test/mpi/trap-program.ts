// A process under mpirun in which WebAssembly traps before and after MPI starts. Prints how often.

import process from "node:process";
import { finalizeMpi, initMpi } from "../../src/transport/mpi/library/init-mpi.ts";

/**
 * (module (memory 1) (func (export "load") (param i32) (result i32) local.get 0 i32.load))
 */
const MODULE = new Uint8Array([
  ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
  ...[1, 6, 1, 0x60, 1, 0x7f, 1, 0x7f],
  ...[3, 2, 1, 0],
  ...[5, 3, 1, 0, 1],
  ...[7, 8, 1, 4, 0x6c, 0x6f, 0x61, 0x64, 0, 0],
  ...[10, 9, 1, 7, 0, 0x20, 0, 0x28, 2, 0, 0x0b],
]);
const OUT_OF_BOUNDS = 100_000_000;
/** So many that the runtime compiles the function to its fastest form, which has no check of bounds of its own. */
const CALLS = 300_000;

function loader(): (address: number) => number {
  const { load } = new WebAssembly.Instance(new WebAssembly.Module(MODULE)).exports;
  if (typeof load !== "function") throw new Error("the module has no function");
  for (let i = 0; i < CALLS; i++) load(i & 0xfff);
  return (address) => load(address);
}

let traps = 0;
function trap(load: (address: number) => number): void {
  for (let i = 0; i < 10; i++) {
    try {
      load(OUT_OF_BOUNDS + i);
    } catch (error) {
      if (!(error instanceof WebAssembly.RuntimeError)) throw error;
      traps++;
    }
  }
}

const before = loader();
trap(before);
const handles = initMpi();
trap(before);
trap(loader());
finalizeMpi(handles);
trap(before);
console.log(`trapped ${traps}`);
process.exit(0);
