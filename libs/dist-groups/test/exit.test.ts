import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { denoBinary } from "../../../scripts/deno-binary.ts";

setDefaultTimeout(120_000);

const script = fileURLToPath(new URL("./exit-by-itself.ts", import.meta.url));
const deno = denoBinary();
const LONGEST_MS = 50_000;

/** Runs a command to its own end; a process that has to be killed has no exit code. */
function run(
  command: string,
  args: readonly string[],
): Promise<{ code: number | null; output: string; errors: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { timeout: LONGEST_MS, killSignal: "SIGKILL" });
    let output = "";
    let errors = "";
    child.stdout.on("data", (data: Buffer) => {
      output += data.toString();
    });
    child.stderr.on("data", (data: Buffer) => {
      errors += data.toString();
    });
    child.on("error", reject);
    child.on("close", (code) => resolve({ code, output, errors }));
  });
}

describe("a process exits by itself once its world is closed", () => {
  test.each([
    ["after work, with the same bits in Bun and Deno", undefined, undefined],
    ["after a rank exited silently", "crash", "rank 2 crashed"],
    ["while ranks wait for ever", "stuck", "RankCrashed WorldClosed"],
  ])("%s", async (_, mode, outcome) => {
    const args = mode === undefined ? [script] : [script, mode];
    const bun = await run(process.execPath, args);
    expect(bun).toMatchObject({ code: 0, errors: "" });
    const lines = bun.output.trim().split("\n");
    expect(lines[0]?.split(" ").length).toBe(4);
    expect(new Set(lines[0]?.split(" ")).size).toBe(1);
    expect(lines[1]).toBe(outcome);
    expect(await run(deno, ["run", "-A", "--no-check", ...args])).toEqual(bun);
  });
});
