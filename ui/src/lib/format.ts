// Numbers and times for people.

export function age(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  if (seconds < 60) return `${seconds}s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes}m`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours}h`;
  return `${Math.floor(hours / 24)}d`;
}

const time = new Intl.DateTimeFormat(undefined, {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  hourCycle: "h23",
});
const dayAndTime = new Intl.DateTimeFormat(undefined, {
  month: "short",
  day: "numeric",
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  hourCycle: "h23",
});

/** The time of day, with the day if it was another one. */
export function clock(at: string): string {
  const date = new Date(at);
  if (Number.isNaN(date.getTime())) return at;
  const today = new Date().toDateString() === date.toDateString();
  return (today ? time : dayAndTime).format(date);
}

const grouped = new Intl.NumberFormat("en");
export const number = (count: number): string => grouped.format(count);

export function count(many: number, one: string, several = `${one}s`): string {
  return `${number(many)} ${many === 1 ? one : several}`;
}

/** The tail of an image reference, which is what tells revisions apart. */
export function shortImage(image: string): string {
  const [name = image, digest] = image.split("@");
  const tail = name.slice(name.lastIndexOf("/") + 1);
  return digest ? `${tail}@${digest.slice(0, 14)}…` : tail;
}

/** The end of an instance's id, which tells it apart from its siblings. */
export const shortId = (id: string): string => id.slice(id.lastIndexOf("-") + 1);
