// A process under mpirun that waits for ever, until rank 1 aborts all.

import { abortMpi, initMpi } from "../../src/transport/mpi/library/init-mpi.ts";

const EXIT_CODE = 7;
const handles = initMpi();
console.log(`rank ${handles.rank} waits`);
setInterval(() => {}, 1000);
if (handles.rank === 1) setTimeout(() => abortMpi(handles, EXIT_CODE), 200);
