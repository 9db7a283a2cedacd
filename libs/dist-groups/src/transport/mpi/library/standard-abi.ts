import type { MpiAbi } from "./abi.ts";

/** Name of libraries with the standard's layout; MPI 5.0 section 20.2 asks for it. */
export const STANDARD_LIBRARY = /^libmpi_abi\b/;

/** The application binary interface of MPI 5.0 (chapter 20): handles are small constants as wide as addresses. */
export const STANDARD_ABI: MpiAbi = {
  name: "standard",
  handle: "usize",
  world: 0x101,
  self: 0x102,
  byte: 0x247,
  errorsReturn: 0x142,
  anySource: -1,
  tagUpperBound: 501,
  threadMultiple: 4096,
  statusBytes: 32,
  sourceOffset: 0,
  tagOffset: 4,
};
