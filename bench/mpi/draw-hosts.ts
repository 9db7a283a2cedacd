import { availableParallelism } from "node:os";
import { type Compute, type Network, stepSeconds } from "./hosts-model.ts";
import { CONTEXTS, LAYERS, type MeasuredStep, RANKS, stepOver } from "./modelled-steps.ts";

const [LEFT, TOP, WIDTH, HEIGHT, RIGHT, BOTTOM] = [70, 60, 520, 320, 150, 50];
const COLORS = ["#4477aa", "#cc6677", "#228833"] as const;

/**
 * An SVG of the modelled attention of a model by ranks, both logarithmic: a colour for each context, dashed where the
 * slower network carries it. Dots: steps measured here with no more ranks than cores.
 */
export function drawHosts(networks: readonly Network[], compute: Compute, measured: readonly MeasuredStep[]): string {
  const seconds = (context: number, ranks: number, network: Network): number =>
    LAYERS * stepSeconds(stepOver(context), ranks, compute, network);
  const all = networks.flatMap((network) =>
    CONTEXTS.flatMap((context) => RANKS.map((ranks) => seconds(context, ranks, network))),
  );
  const low = Math.floor(Math.log10(Math.min(...all)));
  const high = Math.ceil(Math.log10(Math.max(...all)));
  const most = Math.log2(RANKS[RANKS.length - 1] ?? 1);
  const x = (ranks: number): number => round(LEFT + (WIDTH * Math.log2(ranks)) / most);
  const y = (value: number): number => round(TOP + (HEIGHT * (high - Math.log10(value))) / (high - low));
  const [width, height] = [LEFT + WIDTH + RIGHT, TOP + HEIGHT + BOTTOM];
  const decades = Array.from({ length: high - low + 1 }, (_, step) => low + step);
  const cores = availableParallelism();
  const dots = measured.filter(({ ranks, step }) => ranks <= cores && step.batch === 1);
  const lines = [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" font-family="sans-serif" font-size="11">`,
    "<title>A decode step over N hosts</title>",
    `<rect width="${width}" height="${height}" fill="white"/>`,
    text(8, 20, `Attention of a decode step over N hosts, ${LAYERS} layers, one sequence (model)`, 'font-size="14"'),
    text(8, 38, `solid: ${networks[0]?.name}; dashed: ${networks[1]?.name}; dots: measured on ${cores} cores`),
    ...decades.flatMap((power) => [
      line(LEFT, y(10 ** power), LEFT + WIDTH, y(10 ** power), "#dddddd"),
      text(
        LEFT - 8,
        y(10 ** power) + 4,
        power < 0 ? `${10 ** (power + 3)} ms` : `${10 ** power} s`,
        'text-anchor="end"',
      ),
    ]),
    ...RANKS.flatMap((ranks) => [
      line(x(ranks), TOP, x(ranks), TOP + HEIGHT, "#dddddd"),
      text(x(ranks), TOP + HEIGHT + 16, String(ranks), 'text-anchor="middle"'),
    ]),
    text(LEFT + WIDTH / 2, TOP + HEIGHT + 36, "ranks, a host each", 'text-anchor="middle"'),
    ...CONTEXTS.flatMap((context, index) => {
      const color = COLORS[index] ?? "black";
      const curves = networks.map((network, kind) => {
        const points = RANKS.map((ranks) => `${x(ranks)},${y(seconds(context, ranks, network))}`).join(" ");
        const dash = kind === 0 ? "" : ' stroke-dasharray="6 4"';
        return `<polyline points="${points}" fill="none" stroke="${color}" stroke-width="2"${dash}/>`;
      });
      const slowest = networks[networks.length - 1];
      const last = slowest === undefined ? TOP : y(seconds(context, RANKS[RANKS.length - 1] ?? 1, slowest));
      const label = text(
        LEFT + WIDTH + 8,
        last + 4 - index * 3,
        `${context.toLocaleString("en")} tokens`,
        `fill="${color}"`,
      );
      return [...curves, label];
    }),
    ...dots.map(({ ranks, seconds: layer, network }) => {
      const fill = network === networks[0]?.name ? COLORS[0] : "white";
      return `<circle cx="${x(ranks)}" cy="${y(LAYERS * layer)}" r="4" fill="${fill}" stroke="${COLORS[0]}"/>`;
    }),
    "</svg>",
  ];
  return `${lines.join("\n")}\n`;
}

function line(x1: number, y1: number, x2: number, y2: number, color: string): string {
  return `<line x1="${x1}" y1="${y1}" x2="${x2}" y2="${y2}" stroke="${color}"/>`;
}

function text(x: number, y: number, content: string, style = ""): string {
  return `<text x="${round(x)}" y="${round(y)}"${style === "" ? "" : ` ${style}`}>${content}</text>`;
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}
