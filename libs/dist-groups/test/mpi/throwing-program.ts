// A program of a job that opens a world, and throws.

import { openWorld } from "../../src/index.ts";

const program = new URL("../fault-program.ts", import.meta.url);
await openWorld({ size: 3, program, heapBytesPerRank: 8 << 20 });
throw new Error("thrown by the program");
