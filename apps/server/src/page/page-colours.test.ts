// The contrast of the page's colours, in light and in dark: that of WCAG 2.2, level AA.
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";

const css = readFileSync(new URL("page.css", import.meta.url), "utf8");
const [light = "", dark = ""] = [...css.matchAll(/:root \{(.*?)\}/gs)].map(([, block = ""]) => block);
const colours = (block: string): Map<string, string> =>
  new Map([...block.matchAll(/--([\w-]+): (#[0-9a-f]{6});/g)].map(([, name = "", value = ""]) => [name, value]));
const inLight = colours(light);
const SCHEMES = { light: inLight, dark: new Map([...inLight, ...colours(dark)]) };

/** Relative luminance of a colour such as `#1b1e23`. */
function luminance(colour: string): number {
  const [red = 0, green = 0, blue = 0] = [1, 3, 5].map((at) => {
    const part = Number.parseInt(colour.slice(at, at + 2), 16) / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

function contrast(one: string, other: string): number {
  const [brighter = 0, darker = 0] = [luminance(one), luminance(other)].sort((a, b) => b - a);
  return (brighter + 0.05) / (darker + 0.05);
}

const RANKS = Array.from({ length: 8 }, (_, rank) => `rank-${rank}`);
/** Texts, and what they stand on. */
const TEXTS: readonly (readonly [string, string])[] = [
  ["ink", "background"],
  ["ink", "surface"],
  ["ink", "track"],
  ["ink", "alarm-surface"],
  ["muted", "background"],
  ["muted", "surface"],
  ["muted", "alarm-surface"],
  ["accent", "background"],
  ["accent", "surface"],
  ["on-accent", "accent"],
  ["alarm", "background"],
  ["alarm", "surface"],
  ["alarm", "alarm-surface"],
  ["good", "background"],
  ["wait", "background"],
  ...RANKS.map((rank) => ["surface", rank] as const),
];
/** Controls and drawings, and what they stand on. */
const DRAWN: readonly (readonly [string, string])[] = [
  ["control", "surface"],
  ["control", "background"],
  ["accent", "alarm-surface"],
  ["alarm", "background"],
  ...["gather", "attention", "combine", "other"].map((part) => [part, "track"] as const),
  ...RANKS.flatMap((rank) => [[rank, "surface"] as const, [rank, "track"] as const]),
];

test("the contrast of black and white is 21, and of a known pair what WCAG's formula gives", () => {
  expect(contrast("#000000", "#ffffff")).toBeCloseTo(21, 6);
  expect(contrast("#767676", "#ffffff")).toBeCloseTo(4.54, 2);
});

for (const [scheme, values] of Object.entries(SCHEMES)) {
  const of = (name: string): string => {
    const value = values.get(name);
    if (value === undefined) throw new Error(`page.css has no colour --${name}`);
    return value;
  };
  test(`${scheme}: texts have a contrast of 4.5 at least, controls and drawings of 3`, () => {
    for (const [pairs, least] of [
      [TEXTS, 4.5],
      [DRAWN, 3],
    ] as const) {
      const poor = pairs
        .map(([one, other]) => `${one} on ${other}: ${contrast(of(one), of(other)).toFixed(2)}`)
        .filter((line) => Number(line.split(": ")[1]) < least);
      expect(poor).toEqual([]);
    }
  });
}

test("dark has a value of its own for every colour, and no colour is used that has none", () => {
  expect([...colours(dark).keys()].sort()).toEqual([...inLight.keys()].sort());
  const rules = css.slice(css.indexOf("* {"));
  expect(rules.match(/#[0-9a-f]{3,8}\b|rgba?\(|hsla?\(/g)).toBeNull();
  const known = new Set([...inLight.keys(), "rank", "share", "part", "sans", "mono"]);
  for (const [, name = ""] of rules.matchAll(/var\(--([\w-]+)/g)) expect(known).toContain(name);
});
