import { Arena, type Tensor } from "@lockstep/tensor";
import type { CombineArgs } from "./combine.ts";

/** Each rank takes its own heads' partial outputs and LSEs from where every peer left them and merges them in rank order. */
export async function combineAllToAll(args: CombineArgs): Promise<void> {
  const { backend, dcpGroup, attnOut, attnLse, base, nonFinite, own, out, lse, allocator, deadlineMs } = args;
  const [batch = 0, , headDim = 0] = attnOut.shape;
  const element = attnOut.size === 0 ? 4 : attnOut.byteLength / attnOut.size;
  const rowBytes = headDim * element + 4;
  const rows = batch * own.count;
  const exchange = { deadlineMs, bytesRead: (dcpGroup.size - 1) * rows * rowBytes };
  const merged = lse === undefined ? { base, nonFinite, out } : { base, nonFinite, out, lse };
  const mine = (tensor: Tensor): Tensor => tensor.slice(1, own.start, own.end);
  const read = <T>(use: (outs: Tensor[], lses: Tensor[]) => T): T =>
    dcpGroup.readPeers(
      [attnOut, attnLse],
      (peers) => {
        const outs = peers.map(([peerOut]) => mine(peerOut ?? attnOut));
        const lses = peers.map(([, peerLse]) => mine(peerLse ?? attnLse));
        return use(outs, lses);
      },
      exchange,
    );
  if (backend.isSynchronous) {
    read((outs, lses) => backend.mergeAttnStates({ outs, lses, ...merged }));
    return;
  }
  // A GPU merge outlives the exchange: take copies of the peers' rows first.
  const scratch = new Arena(allocator.heap, dcpGroup.size * (rows * rowBytes + 256));
  try {
    const copies = read((outs, lses) => ({
      outs: outs.map((state) => state.clone(scratch)),
      lses: lses.map((state) => state.clone(scratch)),
    }));
    await backend.mergeAttnStates({ ...copies, ...merged });
  } finally {
    scratch.close();
  }
}
