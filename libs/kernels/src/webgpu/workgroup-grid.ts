/** WebGPU's limit on each dimension of a dispatch. */
const MAX_PER_DIMENSION = 65535;

/**
 * Dimensions of a dispatch of at least `count` workgroups. Kernels compute their index as
 * `workgroup_id.x + workgroup_id.y * num_workgroups.x` and leave when it is not below the count.
 */
export function workgroupGrid(count: number): [x: number, y: number] {
  if (count <= MAX_PER_DIMENSION) return [count, 1];
  const y = Math.ceil(count / MAX_PER_DIMENSION);
  return [Math.ceil(count / y), y];
}
