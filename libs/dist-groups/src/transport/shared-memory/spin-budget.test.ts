import { expect, test } from "bun:test";
import { SpinBudget } from "./spin-budget.ts";

test("yields adapt to how long parks last, spins stay", () => {
  const budget = new SpinBudget(2, 2, true);
  const { spins, yieldMs: most } = budget;
  for (let park = 0; park < 20; park++) budget.parkedFor(5);
  expect(budget.yieldMs).toBeLessThan(most / 10);
  for (let park = 0; park < 10; park++) budget.parkedFor(0.02);
  expect(budget.yieldMs).toBe(most);
  expect(budget.spins).toBe(spins);
});

test("a rank looks on only where each has a core of its own, and can give it away afterwards", () => {
  expect(new SpinBudget(2, 2, true).spinMs).toBeGreaterThan(0);
  for (const budget of [new SpinBudget(3, 2, true), new SpinBudget(2, 2, false), new SpinBudget(4, 2, false)]) {
    expect(budget.spinMs).toBe(0);
  }
});

test("with more ranks than cores a rank yields at once", () => {
  const budget = new SpinBudget(4, 2, true);
  expect(budget.spins).toBeLessThan(50);
  expect(budget.yieldMs).toBe(new SpinBudget(2, 2, true).yieldMs);
});

test("yields that take slices of others make the rank park at once for a while, then try again", () => {
  const budget = new SpinBudget(2, 2, true);
  const parksHeld = (): number => {
    let parks = 0;
    for (; budget.yieldMs === 0; parks++) budget.parkedFor(0.03);
    return parks;
  };
  // One long yield now and then, or some with many short ones between, are peers that compute.
  for (let at = 0; at < 1000; at += 100) budget.yieldedFor(3, at);
  for (let at = 2000; at < 2040; at += 4) {
    budget.yieldedFor(3, at);
    for (let turn = 0; turn < 32; turn++) budget.yieldedFor(0.001, at);
  }
  expect(budget.isHeld).toBe(false);
  for (const at of [3000, 3004, 3008]) budget.yieldedFor(3, at);
  expect(budget.isHeld).toBe(true);
  expect(parksHeld()).toBe(128);
  budget.yieldedFor(3, 3100);
  expect(parksHeld()).toBe(256);
  for (let turn = 0; turn < 512; turn++) budget.yieldedFor(0.001, 3200);
  budget.yieldedFor(3, 3300);
  expect(budget.isHeld).toBe(false);
  for (let park = 0; park < 10; park++) budget.parkedFor(0.03);
  expect(budget.yieldMs).toBeGreaterThan(0.1);
});

test("with more ranks than cores, yields in which peers compute are none that take slices of others", () => {
  const budget = new SpinBudget(4, 2, true);
  for (let at = 0; at < 100; at++) budget.yieldedFor(1, at);
  expect(budget.isHeld).toBe(false);
  for (const at of [1000, 1004, 1008]) budget.yieldedFor(3, at);
  expect(budget.isHeld).toBe(true);
});

test("without yields and with a core per rank, spins adapt to how long parks last", () => {
  const budget = new SpinBudget(2, 2, false);
  const most = budget.spins;
  for (let park = 0; park < 20; park++) budget.parkedFor(5);
  expect(budget.spins).toBe(50);
  for (let park = 0; park < 10; park++) budget.parkedFor(0.02);
  expect(budget.spins).toBe(most);
  expect(budget.yieldMs).toBe(0);
});

test("without yields, when the most spins do not help, the rank parks at once for a while, then tries again", () => {
  const budget = new SpinBudget(2, 2, false);
  const most = budget.spins;
  budget.parkedFor(0.02);
  for (let park = 0; park < 32; park++) {
    expect(budget.spins).toBe(50);
    budget.parkedFor(0.02);
  }
  for (let park = 0; park < 10; park++) budget.parkedFor(0.02);
  expect(budget.spins).toBe(most);
});

test("without yields and with more ranks than cores, spins stay few", () => {
  const budget = new SpinBudget(4, 2, false);
  expect(budget.spins).toBe(50);
  for (let park = 0; park < 20; park++) budget.parkedFor(0.02);
  expect(budget.spins).toBe(50);
});
