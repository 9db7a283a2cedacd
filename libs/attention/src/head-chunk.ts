/** The range [start, end) of `heads` that member `rank` of a group of `size` owns: [floor(H*r/n), floor(H*(r+1)/n)). */
export function headChunk(heads: number, rank: number, size: number): { start: number; end: number } {
  return { start: Math.floor((heads * rank) / size), end: Math.floor((heads * (rank + 1)) / size) };
}
