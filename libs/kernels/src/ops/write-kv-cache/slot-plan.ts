// Where the new tokens of a step are stored. It is the same on every layer: checked once, used many times.
import { ArgumentError, describe } from "@lockstep/tensor";
import { expectList } from "../../operand.ts";
import { checkPagedCacheSize, type PagedCacheSize } from "../../kv/paged-cache-size.ts";

/**
 * Slots that were checked for caches of a size, to be given to `writeKvCache` as the `slotMapping` of every layer.
 * Keeps a copy: what it was made from may change.
 */
export class SlotPlan {
  readonly #slots: Int32Array;
  readonly #size: PagedCacheSize;

  /**
   * @param slotMapping slot of each token, or -1; no slot twice
   * @throws ArgumentError
   */
  constructor(slotMapping: ArrayLike<number>, size: PagedCacheSize) {
    const name = "SlotPlan";
    checkPagedCacheSize(name, size);
    checkSlots(name, slotMapping, size.numBlocks * size.blockSize);
    this.#slots = new Int32Array(slotMapping);
    this.#size = { ...size };
  }

  /** True for a plan, whatever `value` inherits: a proxy of one is none. */
  static isPlan(value: unknown): value is SlotPlan {
    return typeof value === "object" && value !== null && #slots in value;
  }

  /** A copy of the slots, for whoever has to check them elsewhere. */
  get slots(): Int32Array {
    return this.#slots.slice();
  }

  /**
   * The slots of a plan for caches of this size.
   * @param name the argument that the plan came as, for the error's text
   * @throws ArgumentError for another size
   */
  static slotsOf(name: string, plan: SlotPlan, { numBlocks, blockSize }: PagedCacheSize): Int32Array {
    const planned = plan.#size;
    if (planned.blockSize === blockSize && planned.numBlocks <= numBlocks) return plan.#slots;
    const expected = `of ${planned.numBlocks} blocks of ${planned.blockSize} or more blocks, as was planned`;
    throw new ArgumentError(name, "keyCache", expected, `${numBlocks} blocks of ${blockSize}`);
  }
}

/** The slots of `tokens` tokens, planned or checked now. @throws ArgumentError */
export function slotsOf(
  name: string,
  slotMapping: ArrayLike<number> | SlotPlan,
  tokens: number,
  size: PagedCacheSize,
): ArrayLike<number> {
  const isPlanned = SlotPlan.isPlan(slotMapping);
  const slots = isPlanned ? SlotPlan.slotsOf(name, slotMapping, size) : slotMapping;
  if (!isPlanned) expectList(name, "slotMapping", slots);
  if (slots.length !== tokens) {
    throw new ArgumentError(name, "slotMapping", `${tokens} slots, one per token of key`, String(slots.length));
  }
  if (!isPlanned) checkSlots(name, slots, size.numBlocks * size.blockSize);
  return slots;
}

function checkSlots(name: string, slotMapping: ArrayLike<number>, slots: number): void {
  expectList(name, "slotMapping", slotMapping);
  const seen = slotMapping.length > 1 ? new Set<number>() : undefined;
  for (let token = 0; token < slotMapping.length; token++) {
    const slot = slotMapping[token] ?? -2;
    if (!Number.isInteger(slot) || slot < -1 || slot >= slots) {
      const received = `${describe(slot)} at index ${token}`;
      throw new ArgumentError(name, "slotMapping", `-1 or from 0 to ${slots - 1}`, received);
    }
    if (slot >= 0 && seen?.has(slot) === true) {
      throw new ArgumentError(name, "slotMapping", "slots that differ", `${slot} twice`);
    }
    seen?.add(slot);
  }
}
