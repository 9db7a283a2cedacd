// Starts MPI, and prints what came of it: `started` and what MPI tells of itself, or the error. Then starts it again
// after its end, and prints that error.

import process from "node:process";
import { finalizeMpi, initMpi } from "../../src/transport/mpi/library/init-mpi.ts";

function told(error: unknown): string {
  return error instanceof Error ? `${error.name}: ${error.message}` : String(error);
}

let exitCode = 0;
try {
  const handles = initMpi();
  const { communicator: _, ...rest } = handles;
  console.log(`started ${JSON.stringify(rest)}`);
  finalizeMpi(handles);
  try {
    initMpi();
  } catch (error) {
    console.log(`again ${told(error)}`);
  }
} catch (error) {
  console.log(`failed ${told(error)}`);
  exitCode = 3;
}
process.exit(exitCode);
