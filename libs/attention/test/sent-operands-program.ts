// The rank's side of replays and prefills whose operands come as data, and whose results go back as data: ranks that
// cannot read the host's heap can run it.
import type { RankContext } from "@lockstep/dist-groups";
import { type DType, type SharedHeap, Tensor, type TensorDescriptor } from "@lockstep/tensor";
import { type Replay, setup as setUpReplay } from "./attention-program.ts";
import { type PrefillRun, setup as setUpPrefill } from "./prefill-program.ts";
import type { TestBackend } from "./test-backend.ts";

/** A tensor's elements, and what they are. */
export interface SentTensor {
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
}

type Needed = "query" | "key" | "out" | "lse";
type Optional = "value" | "sinks";

/** The tensors of a run: whole ones, of all ranks' heads. */
export type SentTensors = Readonly<Record<Needed, SentTensor>> & { readonly [Name in Optional]?: SentTensor };
/** What else a run is. */
export type WithoutTensors<Run> = Omit<Run, Needed | Optional>;

/** What this rank has written, of all ranks' heads. */
export interface ReceivedResults {
  readonly out: Uint8Array;
  readonly lse: Uint8Array;
  readonly tokensHeld: number;
}

/** A copy of a tensor that goes to other memories. */
export function sentTensor(descriptor: TensorDescriptor, heap: SharedHeap): SentTensor {
  const { dtype, shape, bytes } = Tensor.fromDescriptor(descriptor, heap);
  return { dtype, shape, bytes: Uint8Array.from(bytes) };
}

/** Called by the world on every rank. Groups, for prefills: kv, query, pcp. */
export async function setup(context: RankContext, options: { backend: TestBackend }) {
  const { heap } = context;
  const { replay } = await setUpReplay(context, options);
  const { run } = await setUpPrefill(context, options);

  async function withTensors(
    sent: SentTensors,
    use: (descriptors: Record<Needed, TensorDescriptor> & Partial<Record<Optional, TensorDescriptor>>) => Promise<{
      tokensHeld: number;
    }>,
  ): Promise<ReceivedResults> {
    const made: Tensor[] = [];
    const place = ({ dtype, shape, bytes }: SentTensor): Tensor => {
      const tensor = Tensor.empty(heap, dtype, shape);
      made.push(tensor);
      tensor.bytes.set(bytes);
      return tensor;
    };
    const [out, lse] = [place(sent.out), place(sent.lse)];
    const { tokensHeld } = await use({
      query: place(sent.query).descriptor,
      key: place(sent.key).descriptor,
      out: out.descriptor,
      lse: lse.descriptor,
      ...(sent.value === undefined ? {} : { value: place(sent.value).descriptor }),
      ...(sent.sinks === undefined ? {} : { sinks: place(sent.sinks).descriptor }),
    });
    const results = { out: Uint8Array.from(out.bytes), lse: Uint8Array.from(lse.bytes), tokensHeld };
    for (const tensor of made) tensor.free();
    return results;
  }

  return {
    replay: (sent: SentTensors, rest: WithoutTensors<Replay>): Promise<ReceivedResults> =>
      withTensors(sent, (tensors) => replay({ ...rest, ...tensors })),
    prefill: (sent: SentTensors, rest: WithoutTensors<PrefillRun>): Promise<ReceivedResults> =>
      withTensors(sent, (tensors) => run({ ...rest, ...tensors })),
  };
}
