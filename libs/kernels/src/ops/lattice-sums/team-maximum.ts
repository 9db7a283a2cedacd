/**
 * WGSL: `team_maximum(value: u32, thread: u32) -> u32`, the largest value of the lanes of the caller's team. To be called
 * in uniform control flow; `thread` as in teamExchange.
 */
export function teamMaximum(lanes: number, useSubgroups: boolean): string {
  if (useSubgroups) {
    const distances: number[] = [];
    for (let distance = lanes / 2; distance >= 1; distance /= 2) distances.push(distance);
    const steps = distances.map((distance) => `  result = max(result, subgroupShuffleXor(result, ${distance}u));\n`);
    return `fn team_maximum(value: u32, thread: u32) -> u32 {
  var result = value;
${steps.join("")}  return result;
}`;
  }
  return `var<workgroup> team_numbers: array<u32, THREADS>;
fn team_maximum(value: u32, thread: u32) -> u32 {
  team_numbers[thread] = value;
  workgroupBarrier();
  let first = thread - thread % LANES;
  var result = value;
  for (var lane = 0u; lane < LANES; lane++) { result = max(result, team_numbers[first + lane]); }
  workgroupBarrier();
  return result;
}`;
}
