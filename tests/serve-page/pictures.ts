// The pictures of the page in docs/: taken anew, and compared with those that are there by size and by what is where.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Browser } from "../consumers/chromium.ts";
import { type ShownPage, withPage } from "./shown-page.ts";
import type { StoryServer } from "./story-server.ts";

const DOCS = fileURLToPath(new URL("../../docs", import.meta.url));
const MOST_BYTES = 150_000;
const QUALITY = 60;

const PICTURES = [
  { file: "serve-light.webp", scheme: "light", width: 1040, hangs: false },
  { file: "serve-dark.webp", scheme: "dark", width: 1040, hangs: false },
  { file: "serve-hang.webp", scheme: "light", width: 1040, hangs: true },
  { file: "serve-phone.webp", scheme: "dark", width: 360, hangs: false },
] as const;

type Picture = (typeof PICTURES)[number];

/** Takes a picture, always of the same scene: a text that has been generated, and two that go on. */
async function take(browser: Browser, server: StoryServer, { scheme, width, hangs }: Picture): Promise<Uint8Array> {
  return await withPage(browser, server.address, async (shown) => {
    await shown.page.emulateMediaFeatures([
      { name: "prefers-color-scheme", value: scheme },
      { name: "prefers-reduced-motion", value: "reduce" },
    ]);
    await shown.page.setViewport({ width, height: 800 });
    await shown.untilText("state", /^Ready$/);
    await shown.tabTo("prompt");
    await shown.page.keyboard.type("In the beginning");
    const gone = new AbortController();
    for (const length of [40, 77]) void server.ask("x".repeat(length), 1000, gone.signal);
    await shown.untilText("running", /^2$/);
    await shown.pressWithControl("Enter");
    await shown.untilText("try-status", /^Done/);
    await shown.until("six explained steps", `document.querySelectorAll("#times-history .gather").length >= 6`);
    server.tell("hang");
    if (hangs) await shown.untilText("state", /^Stuck/);
    const options = { type: "webp", quality: QUALITY, fullPage: true } as const;
    const picture = await shown.page.screenshot(options);
    server.tell("go");
    gone.abort();
    await shown.untilText("running", /^0$/);
    return picture;
  });
}

/** Takes all pictures anew. Returns what it wrote, for people. */
export async function writePictures(browser: Browser, server: StoryServer): Promise<string[]> {
  const lines: string[] = [];
  for (const picture of PICTURES) {
    const bytes = await take(browser, server, picture);
    await Bun.write(join(DOCS, picture.file), bytes);
    lines.push(`docs/${picture.file}: ${bytes.length} bytes`);
  }
  return lines;
}

/** @throws Error when a picture in docs/ is too large, or does not look like the page */
export async function checkPictures(browser: Browser, server: StoryServer): Promise<string> {
  const differences: string[] = [];
  for (const picture of PICTURES) {
    const there = readFileSync(join(DOCS, picture.file));
    if (there.length > MOST_BYTES) {
      throw new Error(`docs/${picture.file}: expected ${MOST_BYTES} bytes at most, but found ${there.length}`);
    }
    const taken = await take(browser, server, picture);
    const difference = await withPage(browser, "about:blank", (shown) => compare(shown, there, taken));
    if (difference > MOST_DIFFERENCE) {
      const wanted = `a picture within ${MOST_DIFFERENCE} of the page`;
      const advice = "`bun run page-pictures` takes it anew";
      throw new Error(`docs/${picture.file}: expected ${wanted}, but found ${difference.toFixed(3)}: ${advice}.`);
    }
    differences.push(difference.toFixed(3));
  }
  return `differences ${differences.join(", ")}`;
}

/** Share of the fields of a picture that may differ: fonts and moments do, what is where does not. */
const MOST_DIFFERENCE = 0.025;

/**
 * The share of 12 by 20 fields that differ: whose mean colour is another, or which have far more or less in them (the
 * deviation from their mean). 1 when the widths differ, or the heights by more than a tenth.
 */
async function compare(shown: ShownPage, one: Uint8Array, other: Uint8Array): Promise<number> {
  const sources = [one, other].map((bytes) => `data:image/webp;base64,${Buffer.from(bytes).toString("base64")}`);
  return Number(await shown.read(`(${differenceOf})(${JSON.stringify(sources)})`));
}

/** Runs in the page. */
async function differenceOf(sources: readonly string[]): Promise<number> {
  const [across, down, size] = [12, 20, 16];
  const pictures = await Promise.all(
    sources.map(async (source) => {
      const picture = new Image();
      picture.src = source;
      await picture.decode();
      const [width, height] = [across * size, down * size];
      const context = new OffscreenCanvas(width, height).getContext("2d");
      if (context === null) throw new Error("there is no canvas");
      context.drawImage(picture, 0, 0, width, height);
      const { data } = context.getImageData(0, 0, width, height);
      const fields = Array.from({ length: across * down }, (_, field) => {
        const [left, top] = [(field % across) * size, Math.floor(field / across) * size];
        const sums = [0, 0, 0];
        let squares = 0;
        for (let pixel = 0; pixel < size * size; pixel++) {
          const at = 4 * ((top + Math.floor(pixel / size)) * width + left + (pixel % size));
          for (let part = 0; part < 3; part++) {
            const value = (data[at + part] ?? 0) / 255;
            sums[part] = (sums[part] ?? 0) + value;
            squares += value * value;
          }
        }
        const means = sums.map((sum) => sum / size ** 2);
        const variance = squares / (3 * size ** 2) - (means.reduce((sum, mean) => sum + mean, 0) / 3) ** 2;
        return { means, deviation: Math.sqrt(Math.max(0, variance)) };
      });
      return { picture, fields };
    }),
  );
  const [one, other] = pictures;
  if (one === undefined || other === undefined) throw new Error("two pictures are compared");
  if (one.picture.width !== other.picture.width) return 1;
  if (Math.abs(one.picture.height / other.picture.height - 1) > 0.1) return 1;
  const differing = one.fields.filter(({ means, deviation }, field) => {
    const there = other.fields[field];
    if (there === undefined) return true;
    const isOtherColour = means.some((mean, part) => Math.abs(mean - (there.means[part] ?? 0)) > 0.12);
    const [less, more] = [Math.min(deviation, there.deviation), Math.max(deviation, there.deviation)];
    return isOtherColour || more > 0.03 + 3 * less;
  });
  return differing.length / one.fields.length;
}
