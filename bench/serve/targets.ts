import { printTable } from "../print-table.ts";

/** What was measured, each with its target. */
export class Targets {
  readonly #rows: string[][] = [];
  /** Whether a target was missed. */
  hasMissed = false;

  /** Takes a figure. @param isMet whether it is as `target` says */
  add(what: string, value: string, target: string, isMet: boolean): void {
    if (!isMet) this.hasMissed = true;
    this.#rows.push([what, value, target, isMet ? "" : "missed"]);
  }

  /** Takes a figure of which there should be none. */
  none(what: string, count: number): void {
    this.add(what, `${count}`, "0", count === 0);
  }

  /** Takes a figure that is told only. */
  tell(what: string, value: string): void {
    this.add(what, value, "", true);
  }

  print(): void {
    printTable(["", "measured", "target", ""], this.#rows);
  }
}
