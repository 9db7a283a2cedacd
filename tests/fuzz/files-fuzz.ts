// Random damage to safetensors and to files of reference outputs: read as what they are, or refused by a typed error.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { checkFiles } from "@lockstep/goldens";
import { LockstepError } from "@lockstep/tensor";
import { writeVariants } from "../golden-variants.ts";
import { RandomStream } from "../random.ts";

/** Copies of reference files, damaged one way at a time. */
export class FilesFuzz {
  readonly #scratch = mkdtempSync(join(tmpdir(), "lockstep-fuzz-"));
  readonly #originals: Buffer[] = [];

  /** Runs one case. @throws Error when the verifier does anything but judge or refuse */
  async run(seed: number): Promise<void> {
    const random = new RandomStream(seed);
    const originals = this.#files();
    const bytes = Buffer.from(originals[random.below(originals.length)] ?? Buffer.alloc(0));
    const header = 8 + Number(bytes.readBigUInt64LE(0));
    const path = join(this.#scratch, "damaged.safetensors");
    const kind = random.below(4);
    let damaged = bytes;
    if (kind === 0) damaged = bytes.subarray(0, random.below(bytes.length));
    for (let count = 1 + random.below(3); count > 0 && kind === 1; count--) {
      const at = random.below(header);
      bytes[at] = (bytes[at] ?? 0) ^ (1 << random.below(8));
    }
    // Digits of the header: shapes, offsets, options.
    for (let count = 1 + random.below(3); count > 0 && kind === 2; count--) {
      const digits = [...bytes.subarray(8, header).entries()].filter(([, byte]) => byte >= 48 && byte <= 57);
      const [at = 0] = digits[random.below(digits.length)] ?? [];
      bytes[8 + at] = 48 + random.below(10);
    }
    if (kind === 3)
      bytes.writeBigUInt64LE(BigInt(Math.floor(random.next() * 2 ** (8 * (1 + random.below(8))))) % 2n ** 64n, 0);
    writeFileSync(path, damaged);
    try {
      await checkFiles([path], { backends: ["reference"], worlds: [1], adapter: "software" });
    } catch (error) {
      if (error instanceof LockstepError && !error.message.includes("\n")) return;
      throw new Error(`damage of kind ${kind} to a reference file`, { cause: error });
    }
  }

  close(): void {
    rmSync(this.#scratch, { recursive: true, force: true });
  }

  #files(): readonly Buffer[] {
    if (this.#originals.length === 0) {
      const variants = join(this.#scratch, "variants.safetensors");
      writeVariants(variants);
      const stored = ["correct", "pack"].map((kind) =>
        fileURLToPath(new URL(`../goldens/${kind}_public.safetensors`, import.meta.url)),
      );
      this.#originals.push(...[variants, ...stored].map((path) => readFileSync(path)));
    }
    return this.#originals;
  }
}
