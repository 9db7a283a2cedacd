/** What lines are written to: standard output, or another stream of the process's. */
export interface LineOutput {
  write(line: string): unknown;
  on(event: "error", listener: () => void): unknown;
}

/**
 * Writes lines to a stream. Those that nobody reads, as the other end is closed, or that find no room are lost: a
 * server goes on without its log.
 */
export function lineWriter(output: LineOutput): (line: string) => void {
  // Without a listener an error of the stream ends the process.
  output.on("error", () => {});
  return (line) => {
    try {
      output.write(line);
    } catch {
      // The line is lost.
    }
  };
}
