// `bun tests/multi-host/two-hosts.ts [FILE]`: runs the demo over two hosts that a network joins, as root on Linux with
// OpenMPI, iproute2 and a C compiler; prints what it printed and what crossed the network, and draws that into FILE.
import { writeFileSync } from "node:fs";
import process from "node:process";
import { runOverTwoHosts } from "./demo-over-hosts.ts";
import { drawTerminal } from "./draw-terminal.ts";

const DELAY_MS = 0.2;

const { exitCode, lines } = await runOverTwoHosts("openmpi", DELAY_MS);
for (const line of lines) process.stdout.write(`${line}\n`);
const [, , file] = process.argv;
if (file !== undefined && exitCode === 0) writeFileSync(file, drawTerminal(lines));
process.exitCode = exitCode ?? 1;
