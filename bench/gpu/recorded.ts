// What others reached on the same GPUs, by the original's Triton kernels and by cuDNN in PyTorch: recorded there once,
// and compared only on a GPU of that name.

/** A recorded time of another implementation. */
export interface Anchor {
  readonly name: string;
  readonly seconds: number;
}

/** Microseconds, by op, shape and dtype of a row. */
type Recorded = Readonly<Record<string, number>>;

const TRITON: readonly { readonly gpu: RegExp; readonly microseconds: Recorded }[] = [
  {
    gpu: /h200/i,
    microseconds: {
      "correct-attn-out N8 B256 H128 D512 bf16": 29.9,
      "correct-attn-out N8 B256 H128 D512 f32": 41.7,
      "correct-attn-out N8 B64 H128 D128 f32": 11.1,
      "correct-attn-out N8 B1024 H64 D128 f32": 46.9,
      "correct-attn-out N8 B4096 H128 D128 f32": 331.7,
      "correct-attn-out N4 B8 H32 D128 f32": 5.7,
      "pack-seq B64 Lmax2048 D1024 f32": 321,
      "unpack-seq B64 Lmax2048 D1024 f32": 244,
      "pack-seq B256 Lmax512 D4096 bf16": 628,
      "unpack-seq B256 Lmax512 D4096 bf16": 518,
      "pack-seq B64 Lmax4095 D2048 f32": 1150,
      "unpack-seq B64 Lmax4095 D2048 f32": 856,
    },
  },
  {
    gpu: /h100/i,
    microseconds: {
      "correct-attn-out N8 B256 H128 D512 bf16": 33.7,
      "correct-attn-out N8 B256 H128 D512 f32": 53.7,
      "correct-attn-out N8 B64 H128 D128 f32": 11.3,
      "correct-attn-out N8 B1024 H64 D128 f32": 47.6,
      "correct-attn-out N8 B4096 H128 D128 f32": 341,
      "correct-attn-out N4 B8 H32 D128 f32": 5.2,
      "pack-seq B64 Lmax2048 D1024 f32": 424,
      "unpack-seq B64 Lmax2048 D1024 f32": 341,
      "pack-seq B256 Lmax512 D4096 bf16": 844,
      "unpack-seq B256 Lmax512 D4096 bf16": 713,
    },
  },
];

const CUDNN: typeof TRITON = [
  {
    gpu: /h200/i,
    microseconds: {
      "partial-attention B1 Hq32 Hkv8 L131072 D128 f16": 136.6,
      "partial-attention B8 Hq32 Hkv8 L32768 D128 f16": 251.1,
      "partial-attention B32 Hq32 Hkv8 L8192 D128 f16": 249.6,
      "partial-attention B1 Hq64 Hkv8 L1048560 D128 f16": 936.1,
      "partial-attention B16 Hq16 Hkv1 L16384 D128 f16": 49.1,
    },
  },
  {
    gpu: /h100/i,
    microseconds: {
      "partial-attention B1 Hq32 Hkv8 L131072 D128 f16": 193.2,
      "partial-attention B8 Hq32 Hkv8 L32768 D128 f16": 365.5,
      "partial-attention B32 Hq32 Hkv8 L8192 D128 f16": 362.5,
      "partial-attention B1 Hq64 Hkv8 L1048560 D128 f16": 1391,
      "partial-attention B16 Hq16 Hkv1 L16384 D128 f16": 64.6,
    },
  },
];

/** What was recorded for a row on a GPU; undefined for other GPUs and rows. */
export function recordedAnchor(gpu: string, op: string, shape: string, dtype: string): Anchor | undefined {
  for (const [name, tables] of [
    ["Triton", TRITON],
    ["cuDNN", CUDNN],
  ] as const) {
    const found = tables.find((table) => table.gpu.test(gpu))?.microseconds[`${op} ${shape} ${dtype}`];
    if (found !== undefined) return { name, seconds: found * 1e-6 };
  }
  return undefined;
}
