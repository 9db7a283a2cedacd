// The rank's side of the test of sequences' lengths: an attention that stores nobody's keys.
import { DcpAttention } from "@lockstep/attention";
import type { RankContext } from "@lockstep/dist-groups";
import { openBackend } from "@lockstep/kernels";
import { setSequenceLength } from "../src/generation/sequence-length.ts";

/** Called by the world on every rank. */
export async function setup({ heap, group, onClose }: RankContext) {
  const backend = await openBackend("wasm", { heap });
  onClose(() => backend.close());
  const shape = { layers: 1, queryHeads: 1, kvHeads: 1, headDim: 4, blockSize: 4, numBlocks: 50 };
  const attention = DcpAttention.open({ backend, heap, dcpGroup: group("dcp"), kvDtype: "f32", ...shape });
  onClose(() => attention.close());

  return {
    /** Sets a new sequence's length again and again; returns what it was after each, and the next position. */
    run(lengths: readonly number[]): { readonly found: number[]; readonly position: number } {
      const sequence = attention.createSequence();
      const found = lengths.map((length) => {
        setSequenceLength(attention, sequence, length);
        return attention.sequenceLength(sequence);
      });
      const { positions } = attention.beginStep([{ sequence, tokens: 1 }]);
      attention.cancelStep();
      attention.freeSequence(sequence);
      return { found, position: positions[0] ?? -1 };
    },
  };
}
