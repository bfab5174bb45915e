// How things are said: durations, moments, codes, and a badge for each kind of state. Colour only repeats what a word and
// a sign say.
import { h } from "./dom.js";

const SIGNS = { good: "✓", warn: "!", bad: "✕", off: "–", unknown: "?" };

export function badge(kind, words) {
  return h("span", { class: `badge ${kind}` }, h("span", { class: "sign", "aria-hidden": "true" }, SIGNS[kind]), words);
}

// 12 ms, 1.3 s, 41 s, 4 min, 3 h, 2 d: as failoverctl says it.
export function duration(ms) {
  if (ms < 100) return `${Math.max(0, Math.round(ms))} ms`;
  if (ms < 10_000) return `${(ms / 1000).toFixed(1)} s`;
  if (ms < 120_000) return `${Math.floor(ms / 1000)} s`;
  if (ms < 7_200_000) return `${Math.floor(ms / 60_000)} min`;
  if (ms < 172_800_000) return `${Math.floor(ms / 3_600_000)} h`;
  return `${Math.floor(ms / 86_400_000)} d`;
}

// As failoverctl's history has it: to a hundredth of a second, where it is seconds.
export function seconds(ms) {
  return ms < 10_000 ? `${(ms / 1000).toFixed(2)} s` : duration(ms);
}

const two = (number) => String(number).padStart(2, "0");

// A moment in the reader's own zone, to the second, and which zone that is; the daemon's own words as the tool tip.
export function moment(iso) {
  const date = new Date(iso);
  if (Number.isNaN(date.getTime())) return h("span", {}, String(iso));
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return h("time", { datetime: iso, title: iso }, `${day} ${clock(date)} ${zone(date)}`);
}

export function clock(date) {
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

function zone(date) {
  const minutes = -date.getTimezoneOffset();
  if (minutes === 0) return "UTC";
  return `UTC${minutes < 0 ? "−" : "+"}${Math.floor(Math.abs(minutes) / 60)}${minutes % 60 ? `:${two(Math.abs(minutes) % 60)}` : ""}`;
}

// How long ago, or in how long, by the reader's clock.
export function distance(iso, now) {
  const ms = new Date(iso).getTime() - now;
  if (Number.isNaN(ms)) return "";
  return ms < 0 ? `${duration(-ms)} ago` : `in ${duration(ms)}`;
}

export function code(name) {
  return h("a", { class: "code", href: `runbooks/codes/${encodeURIComponent(name)}` }, name);
}

export function rule(id) {
  return h("a", { class: "code", href: `runbooks/rules/${encodeURIComponent(id)}` }, id);
}

// Words with a link at each code at their beginning or after a colon: "mail1: SMTP_REFUSED: connection refused".
export function coded(words) {
  return String(words)
    .split(/(\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b)/)
    .map((part, at) => (at % 2 ? code(part) : part));
}

export function plural(count, one, more = `${one}s`) {
  return `${count} ${count === 1 ? one : more}`;
}

// "mail1, mail2 or mail3", of words or of elements.
export function listed(items) {
  return items.flatMap((item, at) => [at === 0 ? "" : at === items.length - 1 ? " or " : ", ", item]);
}
