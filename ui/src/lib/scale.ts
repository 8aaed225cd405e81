// From where to where a chart reaches.

export interface Scale {
  from: number;
  to: number;
}

/** Fewer than this are told apart on a scale that begins at nothing. */
const MANY = 20;

/** From nothing, as long as changes are seen on that; where they are small beside what there
 * is, only what is around them: one of two hundred is less than a pixel otherwise. */
export function scaleOf(lowest: number, highest: number): Scale {
  const spread = highest - lowest;
  if (highest < MANY || spread === 0 || lowest < highest * 0.75) {
    return { from: 0, to: Math.max(1, highest) };
  }
  const room = Math.max(2, Math.ceil(spread * 0.3));
  return { from: lowest - room, to: highest + Math.ceil(room / 2) };
}
