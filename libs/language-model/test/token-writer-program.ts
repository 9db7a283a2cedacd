// The rank's side of the test of token streams: writes tokens while the host reads them.
import type { RankContext } from "@lockstep/dist-groups";
import { Tensor, type TensorDescriptor } from "@lockstep/tensor";
import { TokenStream } from "../src/generation/token-stream.ts";

/** Called by the world on every rank. */
export function setup({ heap }: RankContext) {
  return {
    /** Writes so many tokens of alternating texts, each after `pauses` turns of a loop, one pause after another. */
    write(descriptor: TensorDescriptor, count: number, pauses: readonly number[]): number {
      const stream = TokenStream.open(descriptor, heap);
      let turned = 0;
      for (let token = 0; token < count; token++) {
        for (let turn = 0; turn < (pauses[token % pauses.length] ?? 0); turn++) turned += turn & 1;
        stream.push({ text: token % 2, token });
      }
      return turned;
    },

    /**
     * Writes each token once the one before was taken, of which `taken` [1] counts; returns how many were taken within
     * `deadlineMs` each.
     */
    writeInTurn(descriptor: TensorDescriptor, taken: TensorDescriptor, count: number, deadlineMs: number): number {
      const stream = TokenStream.open(descriptor, heap);
      const words = Tensor.fromDescriptor(taken, heap).i32;
      for (let token = 0; token < count; token++) {
        stream.push({ text: 0, token });
        if (Atomics.wait(words, 0, token, deadlineMs) === "timed-out") return token;
      }
      return count;
    },
  };
}
