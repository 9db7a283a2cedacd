// What an op recorded, to be recorded again without being worked out again, when its operands are the same.
import type { Command, Dispatch } from "./commands.ts";
import type { Region } from "./region.ts";

/** Words that go up with a submission, as a region of them was. */
interface Words {
  readonly words: Uint32Array;
  readonly region: Region;
}

/** A dispatch over buffers of tensors, and over words that go up. */
export interface RepeatedDispatch {
  readonly dispatch: Dispatch;
  /** In the place of regions of the upload pool; undefined for the others. */
  readonly words: readonly (Words | undefined)[];
}

/**
 * Commands of an op to be repeated. Undefined when they are not dispatches alone, or use memory of a submission but for
 * the words that they read: of operands in the heap these would be what they were.
 * @param staging what goes up, each region's part at its offset
 */
export function repeatedDispatches(
  commands: readonly Command[],
  staging: ArrayBuffer,
): readonly RepeatedDispatch[] | undefined {
  const repeated: RepeatedDispatch[] = [];
  for (const command of commands) {
    if (command.kind !== "dispatch") return undefined;
    const words: (Words | undefined)[] = [];
    for (const [index, region] of command.regions.entries()) {
      const isRead = command.kernel.bindings[index] === "uniform" || command.kernel.bindings[index] === "read";
      if (region.home === "upload" && isRead) {
        words.push({ words: new Uint32Array(staging.slice(region.offset, region.offset + region.size)), region });
      } else if (typeof region.home === "string") return undefined;
      else words.push(undefined);
    }
    repeated.push({ dispatch: command, words });
  }
  return repeated;
}

/**
 * The same dispatches, with their words where they go up now.
 * @param upload has words go up, and tells where
 */
export function repeatDispatches(
  repeated: readonly RepeatedDispatch[],
  upload: (words: Uint32Array) => Region,
): Dispatch[] {
  return repeated.map(({ dispatch, words }) => {
    const regions = dispatch.regions.map((region, index) => {
      const of = words[index];
      return of === undefined ? region : { ...of.region, offset: upload(of.words).offset };
    });
    return { ...dispatch, regions };
  });
}
