// bun run fuzz [--seconds 60] [--seed N] [--only attention,arguments,files] [--cases N]
//
// Runs random cases of every target in turn, for so many seconds or cases, from a seed that it prints. A case depends
// on its own seed alone: `--seed S --cases 1 --only TARGET` runs one again. Exits with 1 when something was found, 2
// for a wrong option.
import { parseArgs } from "node:util";
import { FUZZ_TARGETS } from "./targets.ts";

function wrongOption(message: string): never {
  console.error(`fuzz: ${message}`);
  process.exit(2);
}

function options(): Record<"seconds" | "seed" | "only" | "cases", string | undefined> {
  const text = { type: "string" } as const;
  try {
    const { values } = parseArgs({ options: { seconds: text, seed: text, only: text, cases: text } });
    const { seconds, seed, only, cases } = values;
    return { seconds, seed, only, cases };
  } catch (error) {
    return wrongOption(error instanceof Error ? error.message : String(error));
  }
}

function wholeNumber(name: string, text: string | undefined, otherwise: number, most: number): number {
  if (text === undefined) return otherwise;
  const number = Number(text);
  if (Number.isInteger(number) && number >= 0 && number <= most && text.trim() !== "") return number;
  return wrongOption(`--${name} must be a whole number up to ${most}, but is ${text}`);
}

const given = options();
const seconds = wholeNumber("seconds", given.seconds, 60, 86_400);
const first = wholeNumber("seed", given.seed, Date.now() % 2 ** 31, 2 ** 32 - 1);
const cases = wholeNumber("cases", given.cases, Number.POSITIVE_INFINITY, 2 ** 31);
const names = given.only?.split(",") ?? Object.keys(FUZZ_TARGETS);
for (const name of names) {
  if (!Object.hasOwn(FUZZ_TARGETS, name))
    wrongOption(`--only names of ${Object.keys(FUZZ_TARGETS)}, but it has ${name}`);
}

console.log(`seed ${first}, ${seconds} seconds`);
const until = performance.now() + seconds * 1000;
const targets = names.map((name) => ({ name, target: FUZZ_TARGETS[name]?.(), runs: 0, found: 0 }));
for (let index = 0; index < cases && performance.now() < until; index++) {
  for (const entry of targets) {
    const seed = (first + index) % 2 ** 32;
    try {
      await entry.target?.run(seed);
    } catch (error) {
      entry.found++;
      console.log(`FOUND by ${entry.name}, seed ${seed}:`, error);
    }
    entry.runs++;
  }
}
for (const { name, target, runs, found } of targets) {
  await target?.close();
  console.log(`${name}: ${runs} cases, ${found} found`);
}
process.exit(targets.some(({ found }) => found > 0) ? 1 : 0);
