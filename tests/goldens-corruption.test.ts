// The verifier of reference files, over damaged copies of them: it refuses them or finds that they differ, and never
// passes one in which something that it verifies was removed or changed.
import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { checkFiles } from "@lockstep/goldens";
import {
  type DType,
  DTYPES,
  LockstepError,
  SafetensorsFile,
  SharedHeap,
  Tensor,
  writeSafetensors,
} from "@lockstep/tensor";
import fc from "fast-check";
import { writeVariants } from "./golden-variants.ts";

setDefaultTimeout(300_000);

const scratch = mkdtempSync(join(tmpdir(), "lockstep-"));
afterAll(() => rmSync(scratch, { recursive: true }));
const command = fileURLToPath(new URL("../apps/goldens/src/main.ts", import.meta.url));
const damaged = join(scratch, "damaged.safetensors");
const heap = SharedHeap.create(64 << 20);

/** A reference file taken apart. */
interface Parts {
  readonly tensors: readonly (readonly [name: string, tensor: Tensor])[];
  readonly cases: readonly Readonly<Record<string, unknown>>[];
}

function takeApart(path: string): Parts {
  using file = SafetensorsFile.open(path);
  return {
    tensors: file.names.map((name) => [name, file.read(name, heap)] as const),
    cases: JSON.parse(file.metadata.cases ?? "[]") as Readonly<Record<string, unknown>>[],
  };
}

/** The first cases of a file of the repository, which are quick to check. */
function firstCases(kind: string, count: number): Parts {
  const path = fileURLToPath(new URL(`./goldens/${kind}_public.safetensors`, import.meta.url));
  const { tensors, cases } = takeApart(path);
  const kept = tensors.filter(([name]) => Number(/\d+/.exec(name)?.[0]) < count);
  return { tensors: kept, cases: cases.slice(0, count) };
}

function write(path: string, { tensors, cases }: Parts): void {
  writeSafetensors(path, tensors, { cases: JSON.stringify(cases) });
}

const variants = join(scratch, "variants.safetensors");
writeVariants(variants);
const FILES: Readonly<Record<string, Parts>> = {
  correct: firstCases("correct", 3),
  pack: firstCases("pack", 3),
  attention: takeApart(variants),
};

type Verdict = "passed" | "failed" | "refused";

/** What the verifier says of `damaged`. Throws for an error that is not typed, or not one line. */
async function verdict(): Promise<Verdict> {
  try {
    const results = await checkFiles([damaged], { backends: ["reference"], worlds: [1], adapter: "software" });
    return results.length > 0 && results.every(({ deviation }) => deviation.worst <= 1) ? "passed" : "failed";
  } catch (error) {
    if (!(error instanceof LockstepError)) throw error;
    expect(error.message).not.toContain("\n");
    return "refused";
  }
}

/** Fields that mean something, without those that say the default; the tensors byte for byte. */
function meaning({ tensors, cases }: Parts): string {
  const defaults: Readonly<Record<string, unknown>> = { base: "e", pad: "-inf", lse_base: "e" };
  const ignored = new Set(["N", "B", "H", "D", "Hq", "Hkv", "Dk", "Dv", "feat", "dtype", "edge"]);
  const letter = tensors[0]?.[0][0] ?? "";
  const byName = new Map(tensors);
  const lengthsOf = (id: string, fields: Readonly<Record<string, unknown>>): number[] => {
    const tensor = byName.get(`${id}.lengths`);
    if (tensor !== undefined) return [...tensor.toNumbers()];
    return Array.isArray(fields.lengths) ? fields.lengths.map(Number) : [];
  };
  const said = cases.map((fields, index) => {
    const id = `${letter}${fields.case ?? index}`;
    const own = Object.entries(fields).filter(([name, value]) => {
      if (name === "case" || ignored.has(name) || value === null || defaults[name] === value) return false;
      // Where all sequences are of one length nothing is padded.
      if (name === "pad") return new Set(lengthsOf(id, fields)).size > 1;
      if (name === "queries") return !(Array.isArray(value) && value.every((count) => count === 1));
      if (name === "scale") return value !== 1 / Math.sqrt(byName.get(`${id}.q`)?.dim(2) ?? 1);
      return KNOWN.has(name);
    });
    return [id, own.sort(), lengthsOf(id, fields)];
  });
  const read = tensors.filter(([name]) => !name.endsWith(".lengths"));
  const bytes = read.map(([name, { dtype, shape, bytes }]) => [name, dtype, shape, Bun.hash(bytes).toString()]);
  return JSON.stringify([said.sort(), bytes.sort()]);
}

const KNOWN = new Set(
  ["base", "pad", "lens", "queries", "scale", "softcap", "window", "sinks", "kv_dtype", "k_scale", "v_scale"].concat([
    "q_scale",
    "lse_base",
  ]),
);

/** Expects that the damaged file is not passed, unless it still means the same. */
async function expectNotPassed(original: Parts): Promise<Verdict> {
  const said = await verdict();
  if (said === "passed") expect(meaning(takeApart(damaged))).toBe(meaning(original));
  return said;
}

describe.each(Object.keys(FILES))("a damaged %s file", (kind) => {
  const original = FILES[kind] ?? { tensors: [], cases: [] };
  const runs = kind === "attention" ? 25 : 150;
  write(join(scratch, `${kind}.safetensors`), original);
  const whole = readFileSync(join(scratch, `${kind}.safetensors`));
  const header = 8 + Number(whole.readBigUInt64LE(0));

  test("passes while it is whole", async () => {
    writeFileSync(damaged, whole);
    expect(await verdict()).toBe("passed");
  });

  test("is refused wherever it is cut", () =>
    fc.assert(
      fc.asyncProperty(fc.nat(whole.length - 1), async (length) => {
        writeFileSync(damaged, whole.subarray(0, length));
        expect(await verdict()).toBe("refused");
      }),
      { numRuns: 60, seed: 31 },
    ));

  test("with bits of its header flipped is refused, or differs, or means the same", () =>
    fc.assert(
      fc.asyncProperty(
        fc.array(fc.record({ at: fc.nat(header - 1), bit: fc.nat(7) }), { minLength: 1, maxLength: 2 }),
        async (flips) => {
          const bytes = Uint8Array.from(whole);
          for (const { at, bit } of flips) bytes[at] = (bytes[at] ?? 0) ^ (1 << bit);
          writeFileSync(damaged, bytes);
          await expectNotPassed(original);
        },
      ),
      { numRuns: 2 * runs, seed: 32 },
    ));

  test("without one of its tensors, or with one of another name, dtype, shape or length, is not passed", () =>
    fc.assert(
      fc.asyncProperty(
        fc.nat(original.tensors.length - 1),
        fc.nat(original.tensors.length - 1),
        fc.constantFrom("remove", "rename", "swap", "dtype", "reshape", "shorten", "empty"),
        fc.constantFrom<DType>(...DTYPES),
        async (at, other, how, dtype) => {
          const tensors = original.tensors.map(([name, tensor]) => [name, tensor] as [string, Tensor]);
          const [name, tensor] = tensors[at] ?? ["", Tensor.zeros(heap, "u8", [1])];
          const [otherName, otherTensor] = tensors[other] ?? [name, tensor];
          const as = (type: DType, shape: readonly number[]): Tensor => {
            const made = Tensor.empty(heap, type, shape);
            made.bytes.set(tensor.bytes.subarray(0, made.byteLength));
            return made;
          };
          const width = tensor.byteLength / Math.max(1, tensor.size);
          if (how === "remove") tensors.splice(at, 1);
          else if (how === "rename") tensors[at] = [`${name}x`, tensor];
          else if (how === "swap") {
            tensors[at] = [name, otherTensor];
            tensors[other] = [otherName, tensor];
          } else if (how === "dtype") {
            const size = Tensor.empty(heap, dtype, [1]);
            tensors[at] = [
              name,
              as(dtype, [...tensor.shape.slice(0, -1), Math.floor((tensor.dim(-1) * width) / size.byteLength)]),
            ];
            size.free();
          } else if (how === "reshape") tensors[at] = [name, as(tensor.dtype, [tensor.size])];
          else if (how === "shorten")
            tensors[at] = [name, as(tensor.dtype, [tensor.dim(0) - 1, ...tensor.shape.slice(1)])];
          else tensors[at] = [name, Tensor.empty(heap, tensor.dtype, [0, ...tensor.shape.slice(1)])];
          write(damaged, { ...original, tensors });
          await expectNotPassed(original);
          for (const [index, [, made]] of tensors.entries()) {
            const isOriginal = original.tensors.some(([, kept]) => kept === made);
            if (!isOriginal && index === at) made.free();
          }
        },
      ),
      { numRuns: runs, seed: 33 },
    ));

  test("of which a case is missing, stands twice, or says something else, is not passed", async () => {
    for (const at of original.cases.keys()) {
      write(damaged, { ...original, cases: original.cases.toSpliced(at, 1) });
      expect(await verdict()).not.toBe("passed");
      const twice = { ...original.cases[at], case: at };
      const named = original.cases.map((fields, index) => ({ case: index, ...fields }));
      write(damaged, { ...original, cases: [...named, twice] });
      expect(await verdict()).toBe("refused");
      for (const name of Object.keys(original.cases[at] ?? {})) {
        for (const value of [-1, 0.5, 1e308, 2 ** 31, [], [1e9], {}, { toString: 1 }, "x", true]) {
          const changed = original.cases.with(at, { ...original.cases[at], [name]: value });
          write(damaged, { ...original, cases: changed });
          if (kind === "attention" && typeof value === "number" && ["scale", "softcap"].includes(name)) continue;
          await expectNotPassed(original);
        }
      }
    }
  });
});

function run(args: readonly string[]): { status: number | null; stderr: string; ms: number } {
  const start = performance.now();
  const { exitCode, stderr } = Bun.spawnSync([process.execPath, command, ...args]);
  return { status: exitCode, stderr: stderr.toString(), ms: performance.now() - start };
}

const [correct] = [FILES.correct ?? { tensors: [], cases: [] }];
const of = (name: string): Tensor =>
  correct.tensors.find(([key]) => key === name)?.[1] ?? Tensor.zeros(heap, "f32", [1]);
const replaced = (changes: Readonly<Record<string, Tensor>>): Parts["tensors"] =>
  correct.tensors.map(([name, tensor]) => [name, changes[name] ?? tensor]);

test.each([
  [
    "out of no ranks, and every expected value wrong",
    { "c1.out": of("c1.out").slice(0, 0, 0), "c1.corrected": of("c1.corrected").clone(heap).fill(7) },
    "c1.",
  ],
  ["out of one rank beside two in lses", { "c1.out": of("c1.out").slice(0, 0, 1) }, "c1."],
  [
    "out and corrected of one rank beside two in lses",
    { "c1.out": of("c1.out").slice(0, 0, 1), "c1.corrected": of("c1.corrected").slice(0, 0, 1) },
    "c1.",
  ],
  ["corrected of another dtype", { "c1.corrected": Tensor.zeros(heap, "f16", [2, 3, 4, 64]) }, "c1.corrected"],
  ["an lse of another shape", { "c1.lse": Tensor.zeros(heap, "f32", [4, 3]) }, "c1.lse"],
])("%s: one clear line and exit code 2", (_, changes, named) => {
  const cases = correct.cases.map((fields) => ({ case: fields.case }));
  write(damaged, { tensors: replaced(changes), cases });
  const { status, stderr } = run([damaged]);
  expect(stderr).toContain(named);
  expect(stderr.trim().split("\n").length).toBe(1);
  expect(status).toBe(2);
});

test("a directory is refused in one line", () => {
  const { status, stderr } = run([scratch]);
  expect(stderr).toContain("a file");
  expect(stderr.trim().split("\n").length).toBe(1);
  expect(status).toBe(2);
});
