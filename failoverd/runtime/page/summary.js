// The facts below the answers: what is under way, what is ordered, what can be lost; and what stands around the page.
import { failover, mail, primary, todo } from "./answers.js";
import { h } from "./dom.js";
import { change as told } from "./history.js";
import { badge, clock, code, coded, distance, duration, listed, moment, rule } from "./words.js";

export function now(view) {
  const { status, history, now: today, outdated } = view;
  const newest = history?.changes[0];
  return [
    h("div", { class: "answers" }, mail(view), primary(view), failover(view), todo(view)),
    h(
      "dl",
      { class: "facts" },
      status.paused &&
        fact("Paused", badge("warn", "nothing acts by itself"), ` by ${status.paused}`, until(status.paused_until, today)),
      status.unproven && fact("RPO", badge("bad", "unproven"), " ", status.unproven),
      status.bound && fact("RPO", bound(status.bound)),
      status.request && fact("Under way", request(status.request)),
      status.scheduled && fact("Scheduled", scheduled(status.scheduled, today)),
      rebuilding(status).map((node) => fact("Rebuild", badge("warn", node.name), " ", rebuild(node.rebuild))),
      afford(status).map((words) => fact("If lost", words)),
      newest && fact("Last change", h("a", { href: "#history-heading" }, told(newest)), ` ${distance(newest.began, today)}`),
      fact("Rule in force", rule(status.rule.id), ` ${status.rule.why}`),
      fact("Store", store(status.store)),
      outdated && fact("Version", `${status.node} runs ${status.software} now: `, h("a", { href: "" }, "load this page anew")),
    ),
  ];
}

function fact(name, ...words) {
  return h("div", {}, h("dt", {}, name), h("dd", {}, ...words));
}

// What would be left if a node besides the primary were lost as well, in the words of failoverctl; nothing where nobody
// serves.
function afford({ afford: losses }) {
  if (!losses.some((loss) => loss.serves)) return [];
  const kinds = [
    [true, true, "good", "the primary serves on, and could still be replaced"],
    [true, false, "warn", "the primary serves on, and could not be replaced until it is back"],
    [false, true, "warn", "the primary could not go on, and another takes over"],
    [false, false, "bad", "clients would wait until it is back"],
  ];
  return kinds
    .map(([serves, replaceable, kind, words]) => {
      const named = losses.filter((loss) => loss.serves === serves && loss.replaceable === replaceable);
      return named.length > 0 && [badge(kind, listed(named.map((loss) => loss.node))), ` ${words}`];
    })
    .filter(Boolean);
}

// ---- what is under way

function until(iso, today) {
  return iso ? [", until ", moment(iso), ` (${distance(iso, today)})`] : ", until somebody resumes";
}

function request({ target, by, reason, text }) {
  return [badge("warn", `to ${target}`), ` by ${by}`, reason && `, “${reason}”`, text && `: ${text}`];
}

function scheduled({ target, by, reason, at, unfit }, today) {
  return [
    badge("warn", `to ${target}`),
    " at ",
    moment(at),
    ` (${distance(at, today)}) by ${by}`,
    reason && `, “${reason}”`,
    unfit && h("p", { class: "warned" }, "It would be dropped now: ", code(unfit.code), ` ${unfit.reason}`),
  ];
}

function bound({ limit_ms, nearest, lag_ms, within }) {
  return [
    within.length ? badge("good", `bounded by ${duration(limit_ms)}`) : badge("bad", `no replica within ${duration(limit_ms)}`),
    nearest && lag_ms !== null && ` ${nearest} is ${duration(lag_ms)} behind`,
  ];
}

const rebuilding = (status) => status.nodes.filter((node) => node.rebuild?.under_way);

export function rebuild({ stage, received, expected, rate, left_ms, reason, saved }) {
  let words = stage;
  if (stage === "receive" && expected) {
    words += `: ${Math.round(received / 1e6)} of ${Math.round(expected / 1e6)} MB, ${Math.round(rate / 1e6)} MB/s`;
    if (left_ms !== null) words += `, ${duration(left_ms)} left`;
  }
  if (stage === "ahead" && saved) words += `: saved in ${saved}`;
  return reason ? `${words}: ${reason}` : words;
}

function store({ kind, node, reachable, version, error }) {
  const where = node ? `${kind}, on ${node}` : kind;
  if (reachable) return [badge("good", "reachable"), ` ${where}, version ${version}`];
  return [badge("bad", "unreachable"), ` ${where}: ${error || "it does not answer"}`];
}

// ---- around the page

export function seen({ status }) {
  return `as ${status.node} sees it`;
}

// What a person needs when nothing comes any more: from when this is, and whom to ask instead.
export function oldNote({ status, age, heardAt }) {
  if (status === null) return "This node's daemon does not answer. The page tries again by itself.";
  const others = status.nodes.filter((node) => node.name !== status.node);
  return [
    h("strong", {}, `${status.node} does not answer. `),
    `All below is old: from ${clock(heardAt)}, ${duration(age)} ago. The page tries again by itself; or ask `,
    listed(others.map((node) => page(status, node))),
    ".",
  ];
}

// Another node's page, where this one was opened by a node's own address; behind a proxy only its name is known here.
function page(status, node) {
  const host = (address) => (address.includes(":") ? `[${address}]` : address);
  const mine = status.nodes.find((one) => one.name === status.node);
  if (mine === undefined || location.hostname !== host(mine.address)) return `${node.name} (${node.address})`;
  if (!/^[0-9a-fA-F.:]+$/.test(node.address)) return node.name;
  return h("a", { href: `${location.protocol}//${host(node.address)}${location.port && `:${location.port}`}/` }, node.name);
}

export function foot({ status }) {
  const others = status.nodes.filter((node) => node.name !== status.node);
  return [
    h(
      "p",
      {},
      "The same, as seen by ",
      others.map((node, index) => [index ? ", " : "", page(status, node)]),
      ". ",
      h("a", { href: "runbooks/" }, "All runbooks"),
      ".",
    ),
    h("p", {}, `failoverd ${status.software} on ${status.node}. This page only shows; `, h("code", {}, "failoverctl"), " changes."),
    status.refused.length > 0 &&
      h("p", {}, `${status.node}'s host does not grant: `, status.refused.map((one) => [coded(one.code), ` ${one.reason} `])),
  ];
}
