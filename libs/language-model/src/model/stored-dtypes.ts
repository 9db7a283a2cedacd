import type { StoredDType } from "../layers/weight.ts";

/** Dtypes of a checkpoint's tensors: that of most, and those that differ, by their names. Plain data. */
export interface StoredDTypes {
  /** Of most tensors. */
  readonly usual: StoredDType;
  /** Of tensors that have another, by name. */
  readonly others: ReadonlyMap<string, StoredDType>;
}

export function storedDTypes(tensors: Iterable<readonly [name: string, dtype: StoredDType]>): StoredDTypes {
  const all = [...tensors];
  const counts = new Map<StoredDType, number>();
  for (const [, dtype] of all) counts.set(dtype, (counts.get(dtype) ?? 0) + 1);
  const [[usual] = ["f32"] as const] = [...counts].sort(([, a], [, b]) => b - a);
  return { usual, others: new Map(all.filter(([, dtype]) => dtype !== usual)) };
}

export function storedDTypeOf(stored: StoredDTypes, name: string): StoredDType {
  return stored.others.get(name) ?? stored.usual;
}
