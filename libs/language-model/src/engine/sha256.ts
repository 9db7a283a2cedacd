import { builtinModule } from "@lockstep/tensor";
import { PrefixStoreError } from "../errors.ts";

/** What is used of `node:crypto`. Declared here so that declarations type-check where Node's types are unknown. */
interface Crypto {
  createHash(algorithm: "sha256"): Hash;
}

interface Hash {
  update(bytes: Uint8Array): void;
  digest(): Uint8Array;
}

/** SHA-256 of bytes that come piece by piece, as Bun, Deno and Node compute it. */
export class Sha256 {
  readonly #hash: Hash;

  /** @param what what is hashed, for the error. @throws PrefixStoreError where there is no node:crypto */
  constructor(what: string) {
    const crypto = builtinModule<Crypto>("node:crypto");
    if (crypto === undefined) {
      throw new PrefixStoreError("unsupported", what, "a runtime with node:crypto", "none, as in browsers");
    }
    this.#hash = crypto.createHash("sha256");
  }

  /** Appends bytes; those in shared memory are copied, as runtimes may refuse them. */
  add(bytes: Uint8Array): this {
    this.#hash.update(bytes.buffer instanceof ArrayBuffer ? bytes : bytes.slice());
    return this;
  }

  /** The 32 bytes. Nothing can be added after it. */
  digest(): Uint8Array {
    return Uint8Array.from(this.#hash.digest());
  }

  /** The same in hexadecimal digits. */
  hex(): string {
    return Array.from(this.digest(), (byte) => byte.toString(16).padStart(2, "0")).join("");
  }
}
