/**
 * Keeps what a backend compiled, so that a second call compiles nothing. An entry's key names the kernel and every
 * constant it was specialised for (dtype, head dim, base, ...): contexts are safe for any mix of shapes.
 *
 * The original, `DCPTritonContext`, keeps one compiled kernel and reuses it whatever the later arguments.
 */
export class KernelContext {
  readonly #compiled = new Map<string, unknown>();
  #hits = 0;

  /** The entry for `key`, made by `compile` when it is asked for the first time. */
  get<T>(key: string, compile: () => T): T {
    const found = this.#compiled.get(key);
    if (found !== undefined) {
      this.#hits++;
      return found as T;
    }
    const made = compile();
    this.#compiled.set(key, made);
    return made;
  }

  /** Keys of everything compiled so far, in order of first use. */
  get entries(): string[] {
    return [...this.#compiled.keys()];
  }

  /** How many calls found their entry compiled. */
  get hits(): number {
    return this.#hits;
  }

  /** How many calls compiled something. */
  get misses(): number {
    return this.#compiled.size;
  }

  /** Forgets everything compiled. */
  clear(): void {
    this.#compiled.clear();
  }
}
