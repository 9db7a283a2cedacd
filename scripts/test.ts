// `bun run test`: the whole suite, in two processes side by side, which together take as many cores as two; and the sum
// of what they counted. `bun run test PATH...`: `bun test` of these alone.
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { Glob } from "bun";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
/** Workers, worlds and software Vulkan live in one process, so files of a part run one after another. */
const TIMEOUT = ["--timeout", "120000"];
/** About half of the time. The other part is all the rest. */
const FIRST_PART = [
  "apps/",
  "bench/",
  "examples/",
  "libs/dist-groups/",
  "libs/language-model/",
  "libs/shared-gpu/",
  "libs/tensor/",
  "scripts/",
  "tests/",
];

const given = process.argv.slice(2);
const files = [...new Glob("{apps,bench,examples,libs,scripts,tests}/**/*.test.ts").scanSync(root)]
  .filter((file) => !file.includes("node_modules"))
  .sort();
const isFirst = (file: string): boolean => FIRST_PART.some((folder) => file.startsWith(folder));
const parts =
  given.length > 0
    ? [given]
    : [files.filter(isFirst), files.filter((file) => !isFirst(file))].map((part) => part.map((file) => `./${file}`));

interface Counts {
  pass: number;
  fail: number;
  skip: number;
  files: number;
}

/**
 * Runs a part; prints what it prints, line by line; returns what it counted. @throws Error when it ends without having
 * counted
 */
async function run(part: readonly string[]): Promise<Counts> {
  const child = Bun.spawn([process.execPath, "test", ...TIMEOUT, ...part], {
    cwd: root,
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const counts: Counts = { pass: 0, fail: 0, skip: 0, files: 0 };
  let hasCounted = false;
  const read = async (stream: ReadableStream<Uint8Array>): Promise<void> => {
    let rest = "";
    const decoder = new TextDecoder();
    const take = (line: string): void => {
      console.log(line);
      const [, count, kind] = /^ *(\d+) (pass|fail|skip|todo)$/.exec(line) ?? [];
      if (kind === "pass" || kind === "fail") counts[kind] = Number(count);
      else if (kind !== undefined) counts.skip += Number(count);
      const [, ran] = /^Ran \d+ tests? across (\d+) files?\./.exec(line) ?? [];
      if (ran === undefined) return;
      hasCounted = true;
      counts.files = Number(ran);
    };
    for await (const bytes of stream) {
      const lines = (rest + decoder.decode(bytes, { stream: true })).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) take(line);
    }
    if (rest !== "") take(rest);
  };
  await Promise.all([read(child.stdout), read(child.stderr)]);
  const status = await child.exited;
  if (!hasCounted) throw new Error(`bun test ended with ${status} before it had run all of its files`);
  // A file that fails outside of its tests is none that failed.
  if (status !== 0 && counts.fail === 0) counts.fail = 1;
  return counts;
}

const counted = await Promise.all(parts.map(run));
const sum = (kind: keyof Counts): number => counted.reduce((total, counts) => total + counts[kind], 0);
if (given.length === 0 && sum("files") !== files.length) {
  throw new Error(`expected ${files.length} files of tests to run, but ${sum("files")} did`);
}
console.log(`\n ${sum("pass")} pass`);
if (sum("skip") > 0) console.log(` ${sum("skip")} skip`);
console.log(` ${sum("fail")} fail\nRan all of ${sum("files")} files.`);
process.exit(sum("fail") === 0 && sum("pass") > 0 ? 0 : 1);
