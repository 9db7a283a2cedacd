// `bun bench/staging.ts`: staged against direct, by collective and size. It is where
// the limits in libs/dist-groups/src/world/group-registry.ts come from.
//
// Every rank writes its whole input anew before each call, as a program does, so that its bytes have to cross to the
// peers; the time to write them is part of both columns. Data are checked. Medians over repetitions, which alternate.
import { availableParallelism, cpus } from "node:os";
import { openWorld } from "@lockstep/dist-groups";
import { readCommandLine, wholeNumber, wholeNumbers } from "../scripts/command-line.ts";
import { median } from "./openmpi/cases.ts";
import type * as program from "./staging-program.ts";
import { STAGED_COLLECTIVES } from "./staging-program.ts";
import { printTable } from "./print-table.ts";

const SIZES = [64, 256, 512, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536] as const;
const STAGING_BYTES = 128 << 10;

async function time(ranks: number, stagedLimit: number): Promise<Map<string, number>> {
  await using world = await openWorld<typeof program>({
    size: ranks,
    program: new URL("./staging-program.ts", import.meta.url),
    stagingBytes: STAGING_BYTES,
    stagedLimit,
  });
  const times = new Map<string, number>();
  for (const name of STAGED_COLLECTIVES) {
    for (const bytes of SIZES) {
      const seconds = await world.call("time", [name, bytes], { deadlineMs: 120_000 });
      times.set(`${name} ${bytes}`, Math.max(...seconds));
    }
  }
  return times;
}

const NAME = "bench/staging.ts";
const { values } = readCommandLine({
  name: NAME,
  does: "Times staged against direct collectives, by size.",
  options: {
    ranks: { type: "string", default: "2,4", takes: "N,N", help: "numbers of ranks" },
    repetitions: { type: "string", default: "3", takes: "N", help: "of both, in turn" },
  },
});
const repetitions = wholeNumber(NAME, "repetitions", values.repetitions, 1);
console.log(`${cpus()[0]?.model.trim() ?? "unknown processor"}, ${availableParallelism()} cores`);
for (const ranks of wholeNumbers(NAME, "ranks", values.ranks, 1)) {
  const [staged, direct]: [Map<string, number>[], Map<string, number>[]] = [[], []];
  for (let repetition = 0; repetition < repetitions; repetition++) {
    staged.push(await time(ranks, STAGING_BYTES));
    direct.push(await time(ranks, 0));
  }
  const at = (times: readonly Map<string, number>[], key: string): number =>
    median(times.map((all) => all.get(key) ?? Number.NaN)) * 1e6;
  console.log(`\n${ranks} ranks: microseconds a call, staged / direct`);
  const rows = SIZES.map((bytes) => [
    `${bytes} B a rank`,
    ...STAGED_COLLECTIVES.map((name) => {
      const [one, other] = [at(staged, `${name} ${bytes}`), at(direct, `${name} ${bytes}`)];
      return `${one.toFixed(2)} / ${other.toFixed(2)} ${one <= other ? "staged" : "direct"}`;
    }),
  ]);
  printTable(["", ...STAGED_COLLECTIVES], rows);
}
