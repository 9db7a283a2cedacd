/** How kernels multiply matrices: by the device's matrix units, or in plain arithmetic with the same results. */
export type MatrixUnits = "native" | "emulated";

/** What kernels that multiply matrices ask of a device. The types do not know Dawn's own features. */
export const MATRIX_FEATURES = [
  "shader-f16",
  "subgroups",
  "chromium-experimental-subgroup-matrix",
] as readonly string[] as readonly GPUFeatureName[];

/** One of the matrix products that an adapter offers, as Dawn describes it. */
interface MatrixProduct {
  readonly componentType: string;
  readonly resultComponentType: string;
  readonly M: number;
  readonly N: number;
  readonly K: number;
}

/**
 * True when an adapter or device multiplies f16 matrices of [16, 16] by [16, 8] and [16, 16] into f32, in subgroups of
 * 32 threads: what `matrix-attention.wgsl` is written for.
 */
export function hasMatrixUnits(features: GPUSupportedFeatures, info: GPUAdapterInfo | undefined): boolean {
  if (info?.subgroupMinSize !== 32 || info.subgroupMaxSize !== 32) return false;
  if (!MATRIX_FEATURES.every((name) => features.has(name))) return false;
  const { subgroupMatrixConfigs = [] } = info as { readonly subgroupMatrixConfigs?: Iterable<MatrixProduct> };
  const products = [...subgroupMatrixConfigs];
  return [8, 16].every((columns) =>
    products.some(
      ({ componentType, resultComponentType, M, N, K }) =>
        componentType === "f16" && resultComponentType === "f32" && M === 16 && N === columns && K === 16,
    ),
  );
}
