// What a page that shows the server at work is given, and where its routes go.
import type { TextEngine } from "@lockstep/language-model";
import type { Hono } from "hono";
import type { Activity } from "./activity.ts";

/** What the page's routes may use. */
export interface PageDeps {
  readonly engine: TextEngine;
  readonly activity: Activity;
  /** As /v1/models has it. */
  readonly modelName: string;
  /** Text of a token, empty if it has none. */
  readonly textOf: (token: number) => string;
  /** Whether /v1 and the live routes want a token. */
  readonly needsToken: boolean;
  /** Aborts when the server ends: streams end then. */
  readonly closing: AbortSignal;
}

/** Routes of a page, with their whole paths (`/`, `/events`). */
export interface PageRoutes {
  /** For everybody: files of the page, which tell nothing about the model or its texts. */
  readonly files: Hono;
  /** For those who have the token, where one is wanted: what the server does. */
  readonly live: Hono;
}

/** Makes the routes of a page. */
export type MakePageRoutes = (deps: PageDeps) => PageRoutes;
