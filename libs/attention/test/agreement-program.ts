// The rank's side of the tests of what ranks must agree on, of closed attention, and of going on with new groups.
import { DcpAttention, type DcpAttentionOptions } from "@lockstep/attention";
import type { Determinism, RankContext } from "@lockstep/dist-groups";
import { openBackend } from "@lockstep/kernels";
import { Arena, LockstepError, Tensor } from "@lockstep/tensor";

const HEAD_DIM = 4;

/** Called by the world on every rank. */
export async function setup(context: RankContext) {
  const { heap, rank, size } = context;
  const backend = await openBackend("wasm", { heap });
  context.onClose(() => backend.close());
  const arena = new Arena(heap, 1 << 16);
  const before = heap.usedBytes;
  const defaults = (): DcpAttentionOptions => ({
    backend,
    heap,
    dcpGroup: context.world,
    layers: 2,
    queryHeads: size,
    kvHeads: 1,
    headDim: HEAD_DIM,
    kvDtype: "f32",
    blockSize: 4,
    numBlocks: 8,
    deadlineMs: 30_000,
  });
  const rows = (tokens: number, seed: number): Tensor => {
    const tensor = Tensor.empty(arena, "f32", [tokens, 1, HEAD_DIM]);
    return tensor.set(Float64Array.from({ length: tensor.size }, (_, at) => Math.fround(Math.sin(seed + at))));
  };

  function failure(run: () => unknown): { tag: string; message: string } {
    try {
      run();
    } catch (error) {
      return { tag: error instanceof LockstepError ? error._tag : "unknown", message: String(error) };
    }
    return { tag: "none", message: "" };
  }

  let attention: DcpAttention | undefined;
  const opened = (): DcpAttention => {
    if (attention === undefined) throw new Error("not opened");
    return attention;
  };

  /** One token more, whose keys and values depend on its number alone. */
  async function step(sequence: number, token: number): Promise<number[]> {
    arena.reset();
    const out = rows(1, 0);
    const open = opened();
    open.beginStep([{ sequence, tokens: 1 }]);
    for (let layer = 0; layer < 2; layer++) {
      await open.forward(layer, rows(1, rank), rows(1, 100 + token), rows(1, 200 + token), out);
    }
    open.endStep();
    return [...out.toNumbers()];
  }

  return {
    /** Opens with an option of this rank's own. */
    openWith(optionsOfRanks: readonly Partial<DcpAttentionOptions>[]) {
      const result = failure(() => DcpAttention.open({ ...defaults(), ...optionsOfRanks[rank] }).close());
      return { ...result, usedBytes: heap.usedBytes - before };
    },

    /** Opens with groups of these names, each rank with its own; none for those left out. */
    openWithGroups(namesOfRanks: readonly { dcpGroup?: string; queryGroup?: string; pcpGroup?: string }[]) {
      const names = Object.entries(namesOfRanks[rank] ?? {});
      const groups = Object.fromEntries(names.map(([option, name]) => [option, context.group(name)]));
      const result = failure(() => DcpAttention.open({ ...defaults(), prefillChunk: 4, ...groups }).close());
      return { ...result, usedBytes: heap.usedBytes - before };
    },

    openWithSinks(sink: number) {
      const sinks = Tensor.empty(heap, "f32", [2, size]).fill(sink * (rank + 1));
      const result = failure(() => DcpAttention.open({ ...defaults(), sinks }).close());
      sinks.free();
      return result;
    },

    /**
     * How a step begins once the sinks hold what kernels do not take, and once they were freed: one rank's kernels read
     * them.
     */
    beginWithWrongSinks(): string[] {
      const sinks = Tensor.empty(heap, "f32", [2, size]).fill(1);
      const open = DcpAttention.open({ ...defaults(), sinks, prefillChunk: 4 });
      const items = [{ sequence: open.createSequence(), tokens: 1 }];
      const begin = () => [failure(() => open.beginStep(items)), failure(() => open.beginPrefill(items))];
      const said: { tag: string }[] = [];
      for (const wrong of [Number.NaN, Number.POSITIVE_INFINITY, 3e38]) {
        sinks.f32[1] = wrong;
        said.push(...begin());
      }
      sinks.free();
      said.push(...begin());
      open.close();
      return said.map(({ tag }) => tag);
    },

    /** What every method says once the attention is closed. */
    async afterClose() {
      const closed = DcpAttention.open({ ...defaults(), prefillChunk: 4 });
      const image = closed.contextImage;
      closed.close();
      const used = heap.usedBytes;
      const items = [{ sequence: 0, tokens: 1 }];
      const row = rows(1, 0);
      const calls: Record<string, () => unknown> = {
        keyCache: () => closed.keyCache(0),
        valueCache: () => closed.valueCache(0),
        rowScales: () => closed.rowScales(0),
        createSequence: () => closed.createSequence(),
        forkSequence: () => closed.forkSequence(0),
        createSequenceFrom: () => closed.createSequenceFrom([1]),
        keepPrefix: () => closed.keepPrefix(0, []),
        knownPrefix: () => closed.knownPrefix([1]),
        forgetPrefixes: () => closed.forgetPrefixes(),
        cacheLayout: () => closed.cacheLayout,
        cacheParts: () => closed.cacheParts,
        rowParts: () => closed.rowParts,
        contextImage: () => closed.contextImage,
        readRows: () => closed.readRows("key 0", [0], row),
        writeRows: () => closed.writeRows("key 0", [0], row),
        adoptContext: () => closed.adoptContext(image),
        listPrefixes: () => closed.listPrefixes(),
        exportPrefixes: () => closed.exportPrefixes(() => {}),
        importPrefixes: () => closed.importPrefixes([], () => {}),
        blocks: () => closed.blocks,
        sequenceLength: () => closed.sequenceLength(0),
        truncateSequence: () => closed.truncateSequence(0, 0),
        freeSequence: () => closed.freeSequence(0),
        beginStep: () => closed.beginStep(items),
        beginPrefill: () => closed.beginPrefill(items),
        write: () => closed.write(0, row, row),
        attend: () => closed.attend(0, row, row),
        forward: () => closed.forward(0, row, row, row, row),
        forwardNow: () => closed.forwardNow(0, row, row, row, row),
        prefill: () => closed.prefill(0, row, row, row, row),
        endStep: () => closed.endStep(),
        cancelStep: () => closed.cancelStep(),
        useGroups: () => closed.useGroups({}),
        metrics: () => closed.metrics,
      };
      const said: Record<string, string> = {};
      for (const [name, call] of Object.entries(calls)) {
        try {
          await call();
          said[name] = "nothing";
        } catch (error) {
          said[name] = error instanceof LockstepError ? error._tag : String(error);
        }
      }
      closed.close();
      const methods = Object.getOwnPropertyNames(DcpAttention.prototype);
      return {
        said,
        methods: methods.filter((name) => name !== "constructor" && name !== "close"),
        left: heap.usedBytes - used,
      };
    },

    /** Opens, fails to open in many ways and closes, over and over. */
    openAndFail(times: number) {
      const used = heap.usedBytes;
      const tags = new Set<string>();
      for (let time = 0; time < times; time++) {
        const bad: Partial<DcpAttentionOptions> =
          [{ numBlocks: 2 ** 31 - 1 }, { maxStepQueries: 2 ** 30 }, { prefillChunk: 2 ** 31 - 1 }, { window: 0 }, {}][
            time % 5
          ] ?? {};
        tags.add(failure(() => DcpAttention.open({ ...defaults(), layers: 1, ...bad }).close()).tag);
      }
      return { tags: [...tags].sort(), left: heap.usedBytes - used };
    },

    start(deterministic: Determinism = "rank-order"): number {
      attention = DcpAttention.open({ ...defaults(), deterministic });
      return attention.createSequence();
    },

    /** As start, with the DCP group named as the query group. */
    startWithQueryGroup(): number {
      attention = DcpAttention.open({ ...defaults(), queryGroup: context.world });
      return attention.createSequence();
    },

    /** What is said of a PCP group where there was none. */
    usePcpGroup: () => failure(() => opened().useGroups({ pcpGroup: context.world })),

    step,

    /** Aborts the world's group in the middle of a step, on rank `by`; the others are in the step's second layer. */
    async stepAborted(sequence: number, token: number, by: number) {
      if (rank !== by) return step(sequence, token);
      const out = rows(1, 0);
      opened().beginStep([{ sequence, tokens: 1 }]);
      await opened().forward(0, rows(1, rank), rows(1, 100 + token), rows(1, 200 + token), out);
      throw new Error("stopped on purpose");
    },

    /** A step that only some ranks end: the others' sequence stays shorter. */
    endAlone(sequence: number, tokens: number): number {
      if (rank % 2 === 0) {
        opened().beginStep([{ sequence, tokens }]);
        opened().endStep();
        opened().createSequence();
      }
      return opened().sequenceLength(sequence);
    },

    goOn(sequence: number) {
      opened().useGroups({ dcpGroup: context.world });
      return {
        length: opened().sequenceLength(sequence),
        held: opened().metrics.tokensHeld,
        next: opened().createSequence(),
      };
    },

    stop() {
      attention?.close();
      attention = undefined;
      return heap.usedBytes - before;
    },
  };
}
