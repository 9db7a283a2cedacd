import process from "node:process";

/**
 * Tells on stderr what the demo is busy with: a line that rewrites itself on a terminal, else one short line a phase.
 */
export class Progress {
  readonly #live: boolean;
  #shown = false;

  constructor(live = process.stderr.isTTY === true) {
    this.#live = live;
  }

  /** A new phase. */
  phase(text: string): void {
    this.#write(this.#live ? `\r\x1b[K${text}` : `${text}\n`);
  }

  /** Progress within a phase: shown on a terminal only. */
  update(text: string): void {
    if (this.#live) this.#write(`\r\x1b[K${text}`);
  }

  /** Takes the line away, so that other output starts on a clean one. */
  clear(): void {
    if (this.#live && this.#shown) process.stderr.write("\r\x1b[K");
    this.#shown = false;
  }

  #write(text: string): void {
    process.stderr.write(text);
    this.#shown = true;
  }
}
