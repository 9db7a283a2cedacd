// The demo over two hosts that a network joins: the text of one process, and bytes that did cross the network.

import { expect, setDefaultTimeout, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { MPI_IMPLEMENTATIONS } from "../../libs/dist-groups/test/mpi/mpi-launcher.ts";
import { runOverTwoHosts } from "./demo-over-hosts.ts";
import { drawTerminal } from "./draw-terminal.ts";

setDefaultTimeout(300_000);

const demo = fileURLToPath(new URL("../../apps/demo/src/main.ts", import.meta.url));
const options = ["--dcp", "2", "--max-tokens", "24"];
/** Each rank tells the other about its outputs in every layer of every step. */
const LEAST_BYTES = 200_000;

test.each([...MPI_IMPLEMENTATIONS])("%s: the text of one process, over a network", async (implementation) => {
  const args = [demo, "--backend", "wasm", "--world", "1", "--max-tokens", "24"];
  const { stdout: expected } = spawnSync(process.execPath, args, { encoding: "utf8" });
  const { exitCode, left, stdout, stderr, sentBytes } = await runOverTwoHosts(implementation, 1, options);
  expect({ exitCode, left, stderr: exitCode === 0 ? "" : stderr }).toEqual({ exitCode: 0, left: [], stderr: "" });
  const textOf = (output: string): string => output.slice(0, output.indexOf("\n\nTP"));
  expect(textOf(stdout)).toBe(textOf(expected));
  expect(stdout).toContain("TP2 DCP2");
  for (const bytes of sentBytes) expect(bytes).toBeGreaterThan(LEAST_BYTES);
});

test("the picture in the docs is of such a run", () => {
  const picture = readFileSync(fileURLToPath(new URL("../../docs/two-hosts.svg", import.meta.url)), "utf8");
  for (const told of [
    "--host host0,host1",
    "Psa23:1 The LORD is my shepherd; I shall not want.",
    "TP2 DCP2",
    "round trip",
  ]) {
    expect(picture).toContain(told);
  }
  expect(drawTerminal(["a < b & c"])).toContain("a &lt; b &amp; c");
});
