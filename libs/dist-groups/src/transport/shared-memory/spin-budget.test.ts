import { expect, test } from "bun:test";
import { SpinBudget } from "./spin-budget.ts";

test("with a core per rank the budget adapts to how long parks last", () => {
  const budget = new SpinBudget(2, 2);
  const most = budget.limit;
  for (let park = 0; park < 20; park++) budget.parkedFor(5);
  expect(budget.limit).toBe(50);
  for (let park = 0; park < 10; park++) budget.parkedFor(0.02);
  expect(budget.limit).toBe(most);
});

test("when the largest budget does not help, the rank parks at once for a while, then tries again", () => {
  const budget = new SpinBudget(2, 2);
  const most = budget.limit;
  budget.parkedFor(0.02);
  for (let park = 0; park < 128; park++) {
    expect(budget.limit).toBe(50);
    budget.parkedFor(0.02);
  }
  for (let park = 0; park < 10; park++) budget.parkedFor(0.02);
  expect(budget.limit).toBe(most);
});

test("with more ranks than cores it stays small", () => {
  const budget = new SpinBudget(4, 2);
  expect(budget.limit).toBe(50);
  for (let park = 0; park < 20; park++) budget.parkedFor(0.02);
  expect(budget.limit).toBe(50);
});
