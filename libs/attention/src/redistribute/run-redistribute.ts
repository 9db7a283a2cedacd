// What `DcpAttention.redistribute` does on one rank, from its options to the attention that goes on.
import type { SharedHeap } from "@lockstep/tensor";
import type { Transfer } from "../kv/transfer-hold.ts";
import { type ResolvedOptions, resolveOptions } from "../options/resolved-options.ts";
import { type ContextPart, moveContext } from "./move-context.ts";
import type { RedistributeMetrics } from "./redistribute-metrics.ts";
import type { MoveOptions } from "./redistribute-options.ts";
import { RedistributeUnsettled } from "./redistribute-unsettled.ts";

/** An attention as a move sees it. */
export interface MovingAttention<A> {
  readonly attention: A;
  readonly part: ContextPart;
  /** @throws StepOrderError unless it is between steps */
  readonly expectBetween: () => void;
  /** Keeps steps from beginning until it is undefined again. */
  readonly hold: (why: Transfer | undefined) => void;
  readonly close: () => void;
}

/**
 * Moves a context; see `DcpAttention.redistribute`.
 * @param open opens this rank's part of the new layout, together with the others
 * @param onUnsettled told of an attention of the new layout that stays open, as nobody knows which one counts
 * @throws as that
 */
export async function runRedistribute<A>(
  { to, ...move }: MoveOptions,
  heap: SharedHeap,
  old: MovingAttention<A> | undefined,
  open: (resolved: ResolvedOptions) => MovingAttention<A>,
  onUnsettled: (error: RedistributeUnsettled, opened: A | undefined) => void,
): Promise<{ readonly attention: A | undefined; readonly metrics: RedistributeMetrics }> {
  let opened: MovingAttention<A> | undefined;
  let target: ResolvedOptions | undefined;
  let failure: Error | undefined;
  try {
    old?.expectBetween();
    target = to === undefined ? undefined : resolveOptions(to);
  } catch (error) {
    failure = error instanceof Error ? error : new Error(String(error));
  }
  const source = failure === undefined ? old : undefined;
  source?.hold("redistribute");
  try {
    const metrics = await moveContext({
      ...move,
      heap,
      failure,
      source: source?.part,
      target,
      open: (resolved) => {
        opened = open(resolved);
        return opened.part;
      },
    });
    source?.hold(undefined);
    source?.close();
    return { attention: opened?.attention, metrics };
  } catch (error) {
    if (error instanceof RedistributeUnsettled) {
      source?.hold("settle");
      opened?.hold("settle");
      onUnsettled(error, opened?.attention);
      throw error;
    }
    source?.hold(undefined);
    opened?.close();
    throw error;
  }
}
