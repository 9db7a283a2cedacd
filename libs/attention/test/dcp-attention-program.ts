// The rank's side of the tests of DcpAttention's refusals and clean-up.
import { DcpAttention, type DcpAttentionOptions } from "@lockstep/attention";
import type { Determinism, RankContext } from "@lockstep/dist-groups";
import { type KernelBackend, openBackend, type WriteKvCacheArgs } from "@lockstep/kernels";
import { LockstepError, Tensor } from "@lockstep/tensor";

/** A backend that has not stored rows yet when its method returns. */
function storingLater(backend: KernelBackend): KernelBackend {
  return new Proxy(backend, {
    get(target, name) {
      if (name === "writeKvCache") return async (args: WriteKvCacheArgs) => target.writeKvCache(args);
      const found: unknown = Reflect.get(target, name, target);
      return typeof found === "function" ? found.bind(target) : found;
    },
  });
}

/** Called by the world on every rank. */
export async function setup({ heap, world, onClose }: RankContext) {
  const backend = await openBackend("reference", { heap });
  onClose(() => backend.close());
  const wasm = await openBackend("wasm", { heap });
  onClose(() => wasm.close());
  const before = heap.usedBytes;
  const defaults: DcpAttentionOptions = {
    backend,
    heap,
    dcpGroup: world,
    layers: 1,
    queryHeads: 2,
    kvHeads: 1,
    headDim: 4,
    kvDtype: "f32",
    blockSize: 4,
    numBlocks: 2,
  };
  const rows = (tokens: number, heads: number): Tensor => {
    const tensor = Tensor.empty(heap, "f32", [tokens, heads, 4]);
    return tensor.set(Float64Array.from({ length: tensor.size }, (_, index) => Math.fround(Math.sin(index))));
  };

  async function failure(run: () => unknown): Promise<{ tag: string; message: string }> {
    try {
      await run();
    } catch (error) {
      return { tag: error instanceof LockstepError ? error._tag : "unknown", message: String(error) };
    }
    return { tag: "none", message: "" };
  }

  return {
    async refusal(options: Partial<DcpAttentionOptions>) {
      const refused = await failure(() => DcpAttention.open({ ...defaults, ...options }).close());
      return { ...refused, usedBytes: heap.usedBytes - before };
    },

    /** Sinks of a shape, all of one value. */
    async refusedSinks(shape: readonly number[], sink: number) {
      const sinks = Tensor.empty(heap, "f32", shape).fill(sink);
      const refused = await failure(() => DcpAttention.open({ ...defaults, sinks }).close());
      sinks.free();
      return { ...refused, usedBytes: heap.usedBytes - before };
    },

    /** A draft that needs more blocks than are left, of a sequence that holds all but the last. */
    async draftBeyondBlocks() {
      const attention = DcpAttention.open({ ...defaults, maxStepQueries: 20 });
      const sequence = attention.createSequence();
      attention.beginStep([{ sequence, tokens: 10, queries: 0 }]);
      await attention.write(0, rows(10, 1), rows(10, 1));
      attention.endStep();
      const refused = await failure(() => attention.beginStep([{ sequence, tokens: 7 }]));
      const length = attention.sequenceLength(sequence);
      attention.beginStep([{ sequence, tokens: 6 }]);
      attention.cancelStep();
      attention.close();
      return { ...refused, length };
    },

    /**
     * Partial LSEs of both heads, and this rank's head's LSE, after one token at a time with keys of 0: a rank's share
     * is its tokens'.
     */
    async partialLses(tokens: number, combine: "ag-rs" | "a2a" | "one-shot", deterministic: Determinism) {
      const told: { layer: number; shape: readonly number[]; partial: number[] }[] = [];
      const onPartialLse = (layer: number, lse: Tensor): void => {
        told.push({ layer, shape: [...lse.shape], partial: [...lse.toNumbers()] });
      };
      const attention = DcpAttention.open({ ...defaults, combine, deterministic, lseBase: "2", onPartialLse });
      const sequence = attention.createSequence();
      const lse = Tensor.empty(heap, "f32", [1, 1]);
      for (let token = 0; token < tokens; token++) {
        attention.beginStep([{ sequence, tokens: 1 }]);
        await attention.forward(0, rows(1, 1), rows(1, 1).fill(0), rows(1, 1), rows(1, 1), lse);
        attention.endStep();
      }
      attention.close();
      return { told, lse: lse.at(0, 0) };
    },

    async prefillOutOfOrder() {
      const plain = DcpAttention.open(defaults);
      const tags = [(await failure(() => plain.beginPrefill([{ sequence: plain.createSequence(), tokens: 1 }]))).tag];
      plain.close();
      const attention = DcpAttention.open({ ...defaults, prefillChunk: 4, maxStepQueries: 5 });
      const sequence = attention.createSequence();
      tags.push((await failure(() => attention.prefill(0, rows(1, 1), rows(1, 1), rows(1, 1), rows(1, 1)))).tag);
      tags.push((await failure(() => attention.beginPrefill([{ sequence, tokens: 6 }]))).tag);
      attention.beginPrefill([{ sequence, tokens: 2 }]);
      tags.push((await failure(() => attention.attend(0, rows(2, 1), rows(2, 1)))).tag);
      tags.push((await failure(() => attention.write(0, rows(2, 1), rows(2, 1)))).tag);
      tags.push((await failure(() => attention.prefill(0, rows(1, 1), rows(2, 1), rows(2, 1), rows(2, 1)))).tag);
      attention.cancelStep();
      const length = attention.sequenceLength(sequence);
      attention.close();
      return { tags, length };
    },

    async outOfBlocks() {
      const attention = DcpAttention.open(defaults);
      const sequence = attention.createSequence();
      const [query, key, value, out] = [rows(8, 1), rows(8, 1), rows(8, 1), rows(8, 1)];
      attention.beginStep([{ sequence, tokens: 8 }]);
      await attention.forward(0, query, key, value, out);
      attention.endStep();
      const outBefore = [...out.toNumbers()];
      const lengthBefore = attention.sequenceLength(sequence);
      const other = attention.createSequence();
      const step = [
        { sequence, tokens: 1 },
        { sequence: other, tokens: 1 },
      ];
      const refused = await failure(() => attention.beginStep(step));
      attention.beginStep([{ sequence, tokens: 0, queries: 8 }]);
      await attention.attend(0, query, out);
      attention.endStep();
      const lengthAfter = attention.sequenceLength(sequence);
      attention.close();
      return { ...refused, outBefore, outAfter: [...out.toNumbers()], lengthBefore, lengthAfter };
    },

    cancelStep() {
      const attention = DcpAttention.open(defaults);
      const sequence = attention.createSequence();
      attention.beginStep([{ sequence, tokens: 5 }]);
      attention.cancelStep();
      const result = { length: attention.sequenceLength(sequence), held: attention.metrics.bytesHeld };
      attention.close();
      return result;
    },

    async outOfOrder() {
      const attention = DcpAttention.open(defaults);
      const sequence = attention.createSequence();
      const tags = [
        (await failure(() => attention.endStep())).tag,
        (await failure(() => attention.attend(0, rows(1, 1), rows(1, 1)))).tag,
      ];
      attention.beginStep([{ sequence, tokens: 1 }]);
      tags.push((await failure(() => attention.beginStep([{ sequence, tokens: 1 }]))).tag);
      tags.push((await failure(() => attention.freeSequence(sequence))).tag);
      attention.endStep();
      attention.close();
      return tags;
    },

    /** A step that ends while its keys are being stored: it is cancelled, another one begins, all is closed. */
    async endedMeanwhile() {
      const tags: string[] = [];
      for (const end of ["cancel", "begin", "close"] as const) {
        const attention = DcpAttention.open({ ...defaults, backend: storingLater(backend) });
        const sequence = attention.createSequence();
        attention.beginStep([{ sequence, tokens: 1 }]);
        const running = attention.forward(0, rows(1, 1), rows(1, 1), rows(1, 1), rows(1, 1));
        if (end !== "close") attention.cancelStep();
        if (end === "begin") attention.beginStep([{ sequence, tokens: 1 }]);
        if (end === "close") attention.close();
        tags.push((await failure(() => running)).tag);
        attention.close();
      }
      return tags;
    },

    async wrongQuery() {
      const attention = DcpAttention.open(defaults);
      attention.beginStep([{ sequence: attention.createSequence(), tokens: 1 }]);
      const refused = await failure(() => attention.attend(0, rows(1, 2), rows(1, 1)));
      attention.close();
      return refused;
    },

    /** 80 tokens, one a step, by a combine; what was computed, and what `auto` made of it. */
    async decode(combine: "auto" | "ag-rs" | "a2a" | "one-shot", on: "reference" | "wasm") {
      const attention = DcpAttention.open({
        ...defaults,
        ...(on === "wasm" ? { backend: wasm } : {}),
        numBlocks: 20,
        combine,
      });
      const sequence = attention.createSequence();
      const out = rows(1, 1);
      const results: number[] = [];
      for (let step = 0; step < 80; step++) {
        attention.beginStep([{ sequence, tokens: 1 }]);
        await attention.forward(0, rows(1, 1), rows(1, 1), rows(1, 1), out);
        attention.endStep();
        results.push(...out.toNumbers());
      }
      const { combine: used, combineChoices } = attention.metrics;
      attention.close();
      return { results, used, combineChoices };
    },

    openAndClose() {
      const used = heap.usedBytes;
      const attention = DcpAttention.open(defaults);
      attention.beginStep([{ sequence: attention.createSequence(), tokens: 3 }]);
      attention.close();
      attention.close();
      return heap.usedBytes - used;
    },
  };
}
