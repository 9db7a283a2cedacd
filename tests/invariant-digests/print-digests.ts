// Prints the digests of the wasm backend as JSON, in Bun and in Deno alike: `bun print-digests.ts TURN`.
import { openBackend } from "@lockstep/kernels";
import { digestsOf, openDigestHeap } from "./cases.ts";

const heap = openDigestHeap();
await using backend = await openBackend("wasm", { heap });
console.log(JSON.stringify(digestsOf(backend, heap, Number(process.argv[2] ?? "0"))));
