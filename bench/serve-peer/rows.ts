// What the bench prints of loads in pairs.
import { median } from "../peer/works.ts";

/** Of a load: tokens a second over all clients, and the median over its requests of the time to the first part. */
export interface Timed {
  readonly rate: number;
  readonly firstMs: number;
}

/** The loads of one side with so many clients, one of each pair. */
export interface SideTimes {
  readonly side: string;
  readonly times: readonly Timed[];
}

/** The headers of {@link row}. */
export function header(own: string, peers: readonly string[]): string[] {
  const ofPeers = peers.flatMap((peer) => [peer, "ratio", "from", "to"]);
  return ["clients", own, ...ofPeers, ...[own, ...peers].map((side) => `first, ${side}`)];
}

/**
 * Medians over the pairs; a ratio is that of the pairs' ratios of speeds, ours over the peer's, from the least to the
 * largest.
 */
export function row(clients: number, own: SideTimes, peers: readonly SideTimes[]): string[] {
  const cells = peers.flatMap(({ side, times }) => {
    if (times.length !== own.times.length) throw new Error(`${times.length} loads of ${side} to ${own.times.length}`);
    const ratios = times.map(({ rate }, pair) => (own.times[pair]?.rate ?? Number.NaN) / rate);
    return [rateOf(times), ...[median(ratios), Math.min(...ratios), Math.max(...ratios)].map((r) => r.toFixed(2))];
  });
  const firsts = [own, ...peers].map(({ times }) => `${median(times.map(({ firstMs }) => firstMs)).toFixed(0)} ms`);
  return [`${clients}`, rateOf(own.times), ...cells, ...firsts];
}

const rateOf = (times: readonly Timed[]): string => `${median(times.map(({ rate }) => rate)).toFixed(0)}/s`;
