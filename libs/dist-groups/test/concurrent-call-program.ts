import { setup as setupCalls } from "./call-program.ts";

/** The same program, which takes calls while others are under way. */
export const concurrent = true;
export const setup = setupCalls;
