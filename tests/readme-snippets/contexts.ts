// What pieces of programs in the documentation stand in: declarations of what they use, on the host and on a rank.
export const CONTEXTS: Readonly<Record<string, string>> = {
  host: `
import { CollectiveTimeout, formatFlightRecord, type World } from "@lockstep/dist-groups";
declare const world: World<{ pairStep(): void; step(tokens: number[]): void; resume(): void }>;
declare const tokens: number[];
`,
  rank: `
import type { DcpAttention } from "@lockstep/attention";
import type { ProcessGroup, RankContext } from "@lockstep/dist-groups";
import type { Tensor } from "@lockstep/tensor";
declare const context: RankContext;
declare const group: ProcessGroup;
declare const attention: DcpAttention;
declare const prompt: readonly number[];
declare const query: Tensor, key: Tensor, value: Tensor, out: Tensor;
declare const [sequence, layer, interleave, window]: readonly [number, number, number, number];
`,
};
