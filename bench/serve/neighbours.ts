// What bad requests cost those who ask for texts meanwhile.
import type { Ask } from "./load.ts";
import { load } from "./load.ts";

/** How bad requests are sent. */
export interface BadTraffic {
  /** How many in all. */
  readonly count: number;
  /** How many a second. */
  readonly perSecond: number;
  /** How long they are sent, and then are not, in turn. */
  readonly turnMs: number;
}

/** What came of it. */
export interface Neighbours {
  /** Texts that ended a second while bad requests came, over those of the quiet turns beside: the median of pairs. */
  readonly ratio: number;
  readonly pairs: number;
  /** Bad requests that were answered otherwise than by a status from 400 to 499. */
  readonly wrongAnswers: number;
  /** Texts that failed. */
  readonly errors: number;
}

const encode = (text: string): Uint8Array<ArrayBuffer> => new TextEncoder().encode(text);
const asText = (body: unknown): Uint8Array<ArrayBuffer> => encode(JSON.stringify(body));

/** Bodies that are wrong, each in another way. */
const BAD: readonly Uint8Array<ArrayBuffer>[] = [
  encode('{"model":"demo","prompt":'),
  Uint8Array.of(0x7b, 0x22, 0xff, 0xfe, 0x22, 0x7d),
  asText({ model: "demo", prompt: 5 }),
  asText({ model: "other", prompt: "x" }),
  asText({ model: "demo", prompt: "x", max_tokens: -1 }),
  asText({ model: "demo", prompt: "x", temperature: "hot" }),
  asText({ model: "demo", prompt: "a long text ".repeat(80_000) }),
  encode(`${"[".repeat(5000)}${"]".repeat(5000)}`),
];

async function sendBad(url: string, index: number): Promise<boolean> {
  const body = BAD[index % BAD.length] ?? encode("");
  const headers = { "content-type": "application/json" };
  const { status } = await fetch(`${url}/v1/completions`, { method: "POST", headers, body });
  return status >= 400 && status < 500;
}

/**
 * Asks for texts, `clients` at a time, as long as bad requests last, which come for a turn and then do not, until all
 * have been sent.
 */
export async function neighbours(
  url: string,
  asks: readonly Ask[],
  clients: number,
  { count, perSecond, turnMs }: BadTraffic,
): Promise<Neighbours> {
  let texts = 0;
  let errors = 0;
  let isOver = false;
  const asking = (async (): Promise<void> => {
    while (!isOver) {
      const answers = await load(url, asks, clients, async () => {
        texts++;
      });
      errors += answers.filter(({ error }) => error !== undefined).length;
    }
  })();
  let wrongAnswers = 0;
  let sent = 0;
  const turn = async (isBad: boolean): Promise<number> => {
    const [before, started] = [texts, performance.now()];
    const answers: Promise<void>[] = [];
    while (performance.now() - started < turnMs) {
      const due = isBad ? Math.floor(((performance.now() - started) * perSecond) / 1000) : 0;
      while (answers.length < due && sent < count) {
        const answer = sendBad(url, sent++).catch(() => false);
        answers.push(
          answer.then((isRight) => {
            if (!isRight) wrongAnswers++;
          }),
        );
      }
      await Bun.sleep(5);
    }
    const rate = ((texts - before) * 1000) / (performance.now() - started);
    await Promise.all(answers);
    return rate;
  };
  const ratios: number[] = [];
  await turn(false);
  for (let isFirst = true; sent < count; isFirst = !isFirst) {
    const first = await turn(isFirst);
    const second = await turn(!isFirst);
    ratios.push(isFirst ? first / second : second / first);
  }
  isOver = true;
  await asking;
  const sorted = ratios.toSorted((a, b) => a - b);
  return { ratio: sorted[sorted.length >> 1] ?? Number.NaN, pairs: ratios.length, wrongAnswers, errors };
}
