/** How a team's lanes share its scores; see partial-attention.wgsl. All powers of two. */
export interface TeamScores {
  readonly lanes: number;
  readonly keys: number;
  readonly rowSlots: number;
}

/** What follows from the sizes. */
export interface Ownership {
  readonly scores: number;
  /** Scores that a lane owns. */
  readonly own: number;
  /** Rows that they belong to, and how many of each row's keys. */
  readonly ownRows: number;
  readonly ownKeys: number;
  /** Lanes that own the same scores. */
  readonly spread: number;
  /** Consecutive lanes that own a row's scores between them. */
  readonly rowLanes: number;
}

/**
 * Shares scores out evenly: with more of them than lanes each lane owns some, with fewer several lanes own the same.
 */
export function scoreOwnership({ lanes, keys, rowSlots }: TeamScores): Ownership {
  const scores = keys * rowSlots;
  const own = Math.max(1, scores / lanes);
  const spread = Math.max(1, lanes / scores);
  const ownRows = Math.max(1, own / keys);
  return { scores, own, ownRows, ownKeys: own / ownRows, spread, rowLanes: spread * Math.max(1, keys / own) };
}

/**
 * WGSL by which the lanes of a team exchange scores, in orders that depend on the sizes alone. To be called in uniform
 * control flow; `thread` is the caller's place in its subgroup, or in the workgroup when there are no subgroups.
 * - `own_scores(scores, thread) -> array<f32, OWN>`: the sums over the team's lanes of the scores that the lane owns
 * - `all_scores(own, thread) -> array<f32, SCORES>`: every lane's own scores
 * - `all_rows(own, thread) -> array<f32, ROW_SLOTS>`: one number per row, from a lane that owns scores of the row
 * - `row_maximum(value, thread)`, `row_sum(value, thread)`: over the lanes that own scores of one row
 */
export function teamExchange(team: TeamScores, useSubgroups: boolean): string {
  return useSubgroups ? bySubgroups(team) : throughWorkgroupMemory(team);
}

function bySubgroups(team: TeamScores): string {
  const { scores, own, ownRows, spread, rowLanes } = scoreOwnership(team);
  const { lanes, keys, rowSlots } = team;
  const fromLane = (value: string, lane: number): string => `subgroupShuffle(${value}, first + ${lane}u)`;
  const all = Array.from({ length: scores }, (_, i) => fromLane(`own[${i % own}u]`, Math.floor(i / own) * spread));
  const rows = Array.from({ length: rowSlots }, (_, r) =>
    fromLane(`own[${ownRows === 1 ? 0 : r % ownRows}u]`, Math.floor((r * keys) / own) * spread),
  );
  const overRow = (combine: (a: string, b: string) => string): string =>
    distances(rowLanes / 2, spread)
      .map((distance) => `  result = ${combine("result", `subgroupShuffleXor(result, ${distance}u)`)};\n`)
      .join("");
  return `
fn own_scores(scores: array<f32, SCORES>, thread: u32) -> array<f32, OWN> {
${halvings(lanes, scores)}}
fn all_scores(own: array<f32, OWN>, thread: u32) -> array<f32, SCORES> {
  let first = thread - thread % LANES;
  return array<f32, SCORES>(${all.join(", ")});
}
fn all_rows(own: array<f32, OWN_ROWS>, thread: u32) -> array<f32, ROW_SLOTS> {
  let first = thread - thread % LANES;
  return array<f32, ROW_SLOTS>(${rows.join(", ")});
}
fn row_maximum(value: f32, thread: u32) -> f32 {
  var result = value;
${overRow((a, b) => `max(${a}, ${b})`)}  return result;
}
fn row_sum(value: f32, thread: u32) -> f32 {
  var result = value;
${overRow((a, b) => `${a} + ${b}`)}  return result;
}`;
}

/** from, from / 2, ..., to */
function distances(from: number, to: number): number[] {
  const list: number[] = [];
  for (let distance = from; distance >= to && distance >= 1; distance /= 2) list.push(distance);
  return list;
}

/**
 * Sums SCORES values over the lanes: at distances LANES / 2, ..., 1 a lane keeps the half of its values that it will
 * own and adds its partner's; once one is left, both keep it. So n values cost about n exchanges, not n * log2(LANES).
 */
function halvings(lanes: number, scores: number): string {
  const lines: string[] = [];
  let names = Array.from({ length: scores }, (_, i) => `scores[${i}u]`);
  for (const distance of distances(lanes / 2, 1)) {
    const half = names.length / 2;
    if (half < 1) {
      names = names.map((name, i) => {
        lines.push(`  let d${distance}_${i} = ${name} + subgroupShuffleXor(${name}, ${distance}u);`);
        return `d${distance}_${i}`;
      });
      continue;
    }
    lines.push(`  let upper${distance} = (thread & ${distance}u) != 0u;`);
    names = Array.from({ length: half }, (_, i) => {
      const [low = "", high = ""] = [names[i], names[i + half]];
      const name = `d${distance}_${i}`;
      lines.push(
        `  let ${name} = select(${low}, ${high}, upper${distance}) +`,
        `    subgroupShuffleXor(select(${high}, ${low}, upper${distance}), ${distance}u);`,
      );
      return name;
    });
  }
  return `${lines.join("\n")}\n  return array<f32, OWN>(${names.join(", ")});\n`;
}

function throughWorkgroupMemory(team: TeamScores): string {
  const { own, ownRows, spread, rowLanes } = scoreOwnership(team);
  const { keys } = team;
  const overRow = (combine: string): string => `
  exchanged[thread] = value;
  workgroupBarrier();
  let first = thread - thread % ${rowLanes}u;
  var result = exchanged[first];
  for (var lane = ${spread}u; lane < ${rowLanes}u; lane += ${spread}u) {
    let other = exchanged[first + lane];
    result = ${combine};
  }
  workgroupBarrier();
  return result;`;
  return `
var<workgroup> exchanged: array<f32, SCORES * THREADS>;

fn own_scores(scores: array<f32, SCORES>, thread: u32) -> array<f32, OWN> {
  for (var i = 0u; i < SCORES; i++) { // unroll
    exchanged[i * THREADS + thread] = scores[i];
  }
  workgroupBarrier();
  let first = thread - thread % LANES;
  var own: array<f32, OWN>;
  for (var j = 0u; j < OWN; j++) { // unroll
    let i = ((thread % LANES) / SPREAD) * OWN + j;
    for (var lane = 0u; lane < LANES; lane++) { own[j] += exchanged[i * THREADS + first + lane]; }
  }
  workgroupBarrier();
  return own;
}
fn all_scores(own: array<f32, OWN>, thread: u32) -> array<f32, SCORES> {
  for (var j = 0u; j < OWN; j++) { // unroll
    exchanged[j * THREADS + thread] = own[j];
  }
  workgroupBarrier();
  let first = thread - thread % LANES;
  var all: array<f32, SCORES>;
  for (var i = 0u; i < SCORES; i++) { // unroll
    all[i] = exchanged[(i % ${own}u) * THREADS + first + (i / ${own}u) * ${spread}u];
  }
  workgroupBarrier();
  return all;
}
fn all_rows(own: array<f32, OWN_ROWS>, thread: u32) -> array<f32, ROW_SLOTS> {
  for (var j = 0u; j < OWN_ROWS; j++) { // unroll
    exchanged[j * THREADS + thread] = own[j];
  }
  workgroupBarrier();
  let first = thread - thread % LANES;
  var all: array<f32, ROW_SLOTS>;
  for (var r = 0u; r < ROW_SLOTS; r++) { // unroll
    all[r] = exchanged[(r % ${ownRows}u) * THREADS + first + ((r * ${keys}u) / ${own}u) * ${spread}u];
  }
  workgroupBarrier();
  return all;
}
fn row_maximum(value: f32, thread: u32) -> f32 {${overRow("max(result, other)")}
}
fn row_sum(value: f32, thread: u32) -> f32 {${overRow("result + other")}
}`;
}
