// What others cost those who ask for texts meanwhile.
import { type Answered, type Ask, load } from "./load.ts";

/** Others, who are measured. */
export interface Traffic {
  /** Sends the next of it, the `index`th; whether the server answered as it should. */
  send(index: number): Promise<boolean>;
  /** What is sent instead in quiet turns, when the traffic itself is not: the part of it that nobody could mind. */
  sendQuietly?(index: number): Promise<boolean>;
}

/** How much of it there is. */
export interface TrafficPlan {
  /** How much in all. */
  readonly count: number;
  /** How much a second. */
  readonly perSecond: number;
  /** Milliseconds that it is sent for, and then is not, in turn. */
  readonly turnMs: number;
}

/** What came of it. */
export interface Neighbours {
  /** Texts that ended a second while the traffic came, and in the quiet turns beside. */
  readonly pairs: readonly { readonly beside: number; readonly quiet: number }[];
  /** How much of the traffic the server answered wrongly. */
  readonly wrongAnswers: number;
  /** What came of the texts, as often as all of them were asked for. */
  readonly rounds: readonly (readonly Answered[])[];
}

/**
 * Asks for texts, `clients` at a time, again and again, as long as the traffic lasts, which comes for a turn and then
 * does not, until all has been sent.
 */
export async function neighbours(
  url: string,
  asks: readonly Ask[],
  clients: number,
  traffic: Traffic,
  { count, perSecond, turnMs }: TrafficPlan,
): Promise<Neighbours> {
  let texts = 0;
  let isOver = false;
  const rounds: Answered[][] = [];
  const asking = (async (): Promise<void> => {
    while (!isOver) {
      rounds.push(
        await load(url, asks, clients, async () => {
          texts++;
        }),
      );
    }
  })();
  let wrongAnswers = 0;
  let sent = 0;
  const turn = async (isSent: boolean): Promise<number> => {
    const send = isSent ? traffic.send : traffic.sendQuietly;
    const [before, started] = [texts, performance.now()];
    const answers: Promise<void>[] = [];
    while (performance.now() - started < turnMs) {
      const due = send === undefined ? 0 : Math.floor(((performance.now() - started) * perSecond) / 1000);
      while (send !== undefined && answers.length < due && (!isSent || sent < count)) {
        const answer = send(isSent ? sent++ : answers.length).catch(() => false);
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
  const pairs: { beside: number; quiet: number }[] = [];
  await turn(false);
  for (let isFirst = true; sent < count; isFirst = !isFirst) {
    const first = await turn(isFirst);
    const second = await turn(!isFirst);
    pairs.push(isFirst ? { beside: first, quiet: second } : { beside: second, quiet: first });
  }
  isOver = true;
  await asking;
  return { pairs, wrongAnswers, rounds };
}
