/** Types that published ones name and that stay unpublished on purpose: programs have no use for their names. */
export const UNPUBLISHED: readonly string[] = [
  // What `openWorld` makes a World of.
  "@lockstep/dist-groups/src/world/world-host.ts: WorldHost",
  // The reductions as values; their type is published.
  "@lockstep/dist-groups/src/wire/collective-header.ts: DETERMINISMS",
  "@lockstep/dist-groups/src/wire/collective-header.ts: REDUCTIONS",
  // AsyncProcessGroup says what it is.
  "@lockstep/dist-groups/src/group/process-group.ts: Promised",
  // The largest element of each quantised dtype.
  "@lockstep/language-model/src/generation/kv-calibration.ts: LARGEST",
  // What backends read of a plan.
  "@lockstep/kernels/src/ops/partial-attention/attention-plan.ts: VisibleKeys",
];
