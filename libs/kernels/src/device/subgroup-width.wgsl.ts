export const SUBGROUP_WIDTH_WGSL = /* wgsl */ `
enable subgroups;

// One workgroup. Thread i writes its place within its subgroup and that subgroup's size.
@group(0) @binding(0) var<storage, read_write> places: array<vec2<u32>>;

@compute @workgroup_size(128)
fn places_in_subgroups(
  @builtin(local_invocation_index) thread: u32,
  @builtin(subgroup_invocation_id) place: u32,
  @builtin(subgroup_size) size: u32,
) {
  places[thread] = vec2(place, size);
}
`;
