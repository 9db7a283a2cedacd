// bun run fuzz [--seconds 60] [--seed N] [--only attention,arguments,files] [--cases N]
//
// Runs random cases of every target in turn, for so many seconds or cases, from a seed that it prints. A case depends
// on its own seed alone: `--seed S --cases 1 --only TARGET` runs one again. Exits with 1 when something was found, 2
// for a wrong option.
import { readCommandLine, refuseCommand, wholeNumber } from "../../scripts/command-line.ts";
import { FUZZ_TARGETS } from "./targets.ts";

const NAME = "fuzz";
const targetNames = Object.keys(FUZZ_TARGETS);
const { values: given } = readCommandLine({
  name: NAME,
  does: "Runs random cases of every target in turn, from a seed that it prints.",
  options: {
    seconds: { type: "string", default: "60", takes: "N", help: "for how long, at most" },
    seed: { type: "string", takes: "N", help: "of the first case (default: the time)" },
    only: { type: "string", takes: "A,B", help: `targets, of ${targetNames.join(", ")}` },
    cases: { type: "string", takes: "N", help: "how many cases, at most" },
  },
});
const seconds = wholeNumber(NAME, "seconds", given.seconds, 0);
const first = wholeNumber(NAME, "seed", given.seed ?? `${Date.now() % 2 ** 31}`, 0) % 2 ** 32;
const cases = given.cases === undefined ? Number.POSITIVE_INFINITY : wholeNumber(NAME, "cases", given.cases, 0);
const names = given.only?.split(",") ?? targetNames;
for (const name of names) {
  if (!Object.hasOwn(FUZZ_TARGETS, name)) refuseCommand(NAME, `--only names of ${targetNames}, but it has ${name}`);
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
