// Indices as people write them, "1, 4-6", as utils/indices.py reads and writes them.

const ENTRY = /(\d+)(?:\s*[-–]\s*(\d+))?/g;
const LARGEST = Number.MAX_SAFE_INTEGER - 1;

const indexOf = (digits) => Math.min(Number(digits), LARGEST);

/** The ranges [first, last] that a text names, rising and apart; what is no index is passed over. */
export function readIndices(text) {
  const ends = [...String(text ?? "").matchAll(ENTRY)].map(([, one, other]) =>
    [indexOf(one), indexOf(other ?? one)].sort((a, b) => a - b),
  );
  return joined(ends);
}

function joined(ends) {
  const found = [];
  for (const [first, last] of [...ends].sort((a, b) => a[0] - b[0])) {
    const before = found.at(-1);
    if (before && first <= before[1] + 1) before[1] = Math.max(before[1], last);
    else found.push([first, last]);
  }
  return found;
}

export const includesIndex = (ranges, index) =>
  ranges.some(([first, last]) => first <= index && index <= last);

/** Ranges with an index more, or without it if it was among them. */
export function toggledIndex(ranges, index) {
  if (!includesIndex(ranges, index)) return joined([...ranges, [index, index]]);
  return ranges.flatMap(([first, last]) => {
    if (index < first || last < index) return [[first, last]];
    return [[first, index - 1], [index + 1, last]].filter(([a, b]) => a <= b); // prettier-ignore
  });
}

/** Ranges as text: three and more in a row as a range. */
export function writtenIndices(ranges) {
  return ranges
    .flatMap(([first, last]) => {
      if (last - first >= 2) return [`${first}-${last}`];
      return first === last ? [`${first}`] : [`${first}`, `${last}`];
    })
    .join(", ");
}
