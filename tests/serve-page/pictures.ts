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
    const answers = [server.ask("x".repeat(40), 220), server.ask("y".repeat(77), 220)];
    await shown.untilText("running", /^2$/);
    await shown.pressWithControl("Enter");
    await shown.untilText("try-status", /^Done/);
    await shown.until("ten explained steps", `document.querySelectorAll("#times-history .gather").length >= 6`);
    await server.tell("hang");
    if (hangs) await shown.untilText("state", /^Stuck/);
    const options = { type: "webp", quality: QUALITY, fullPage: true } as const;
    const picture = await shown.page.screenshot(options);
    await server.tell("go-on");
    await Promise.all(answers);
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
      throw new Error(
        `docs/${picture.file}: expected ${wanted}, but found ${difference.toFixed(3)}. \`bun run page-pictures\` takes it.`,
      );
    }
    differences.push(difference.toFixed(3));
  }
  return `differences ${differences.join(", ")}`;
}

/** Fonts and moments differ; what is where does not. */
const MOST_DIFFERENCE = 0.06;

/**
 * How much two pictures differ: the mean over 16 by 24 fields of the largest difference of a colour, from 0 to 1, and 1
 * when the widths differ or the heights by more than a tenth.
 */
async function compare(shown: ShownPage, one: Uint8Array, other: Uint8Array): Promise<number> {
  const sources = [one, other].map((bytes) => `data:image/webp;base64,${Buffer.from(bytes).toString("base64")}`);
  const difference = await shown.read(`(async () => {
    const [one, other] = await Promise.all(${JSON.stringify(sources)}.map(async (source) => {
      const picture = new Image();
      picture.src = source;
      await picture.decode();
      const canvas = new OffscreenCanvas(16, 24);
      const context = canvas.getContext("2d");
      context.imageSmoothingQuality = "high";
      context.drawImage(picture, 0, 0, 16, 24);
      return { width: picture.width, height: picture.height, data: context.getImageData(0, 0, 16, 24).data };
    }));
    if (one.width !== other.width || Math.abs(one.height / other.height - 1) > 0.1) return 1;
    let sum = 0;
    for (let at = 0; at < one.data.length; at += 4) {
      sum += Math.max(...[0, 1, 2].map((part) => Math.abs(one.data[at + part] - other.data[at + part]))) / 255;
    }
    return sum / (16 * 24);
  })()`);
  return Number(difference);
}
