// The decision between the stages: the twin of classkinfy_export/decision.py.

export const UNDECIDED = -1;

// quality, probabilities: Float32Array; measures, rules: the manifest's.
export function decide(quality, probabilities, measures, rules) {
  let [reasons, refused] = [0, false];
  for (const [bit, rule] of rules.entries()) {
    // Between float32 values, which are the same on every runtime.
    const value = Math.fround(quality[measures.indexOf(rule.measure)]);
    const broken =
      rule.above != null ? value > Math.fround(rule.above) : value < Math.fround(rule.below);
    if (!broken) continue;
    reasons |= 1 << bit;
    refused ||= rule.effect === "refuse";
  }
  const winner = largest(probabilities);
  return {
    accepted: !refused,
    reasons,
    diagnosis: refused ? UNDECIDED : winner,
    confidence: Math.fround(probabilities[winner]),
  };
}

// The place of the largest value, the first of equal ones.
export function largest(values) {
  let place = 0;
  for (let i = 1; i < values.length; i++) if (values[i] > values[place]) place = i;
  return place;
}
