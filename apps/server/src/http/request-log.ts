/** One line of the log. Plain data: no texts of prompts or answers. */
export interface LogEntry {
  readonly level: "info" | "warn" | "error";
  /** What happened. */
  readonly event: string;
  readonly [field: string]: unknown;
}

/** Takes a line of the log. */
export type Log = (entry: LogEntry) => void;

/** A log of JSON lines with the time. */
export function jsonLines(write: (line: string) => void): Log {
  return (entry) => write(`${JSON.stringify({ time: new Date().toISOString(), ...entry })}\n`);
}

/** The id of a request: what its header x-request-id says, if that can be one, else a new one. */
export function requestId(given: string | undefined): string {
  return given !== undefined && /^[\w.:-]{1,100}$/.test(given) ? given : `req-${crypto.randomUUID()}`;
}
