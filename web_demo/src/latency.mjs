// How long each stage takes: of one run, and the median of many.

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

// runs: of {stage: milliseconds}, with the same stages. Gives {stage: median}, and of the whole,
// which is no sum of medians.
export function medians(runs) {
  const stages = Object.keys(runs[0]);
  const rows = stages.map((stage) => [stage, median(runs.map((run) => run[stage]))]);
  return { stages: Object.fromEntries(rows), total: median(runs.map(total)) };
}

export function total(timings) {
  return Object.values(timings).reduce((sum, ms) => sum + ms, 0);
}
