// The answers on top: who is primary, could it fail over now, to whom or why not, and what is under way.
import { h } from "./dom.js";
import { badge, clock, code, coded, distance, duration, moment, plural, rule } from "./words.js";

export function now({ status, check, old, age, heardAt, now: today, outdated }) {
  return [
    h("div", { class: "answers" }, primary(status, old, age, heardAt), failover(status, old)),
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
      fact("Rule in force", rule(status.rule.id), ` ${status.rule.why}`),
      fact("Store", store(status.store)),
      fact("Findings", counted(check)),
      outdated && fact("Version", `${status.node} runs ${status.software} now: `, h("a", { href: "" }, "load this page anew")),
    ),
  ];
}

function fact(name, ...words) {
  return h("div", {}, h("dt", {}, name), h("dd", {}, ...words));
}

// ---- the two answers

function primary(status, old, age, heardAt) {
  const [kind, name, words] = holder(status, old ? 0 : age);
  return h(
    "div",
    { id: "answer-primary", class: `answer ${old ? "unknown" : kind}` },
    h("p", { class: "question" }, "Primary"),
    h("p", { class: "big" }, badge(old ? "unknown" : kind, old ? `not known now; it was ${name}` : name)),
    h("p", { class: "words" }, `term ${status.term}`, " · ", words, old && ` at ${clock(heardAt)}`),
  );
}

// [kind, who, words about the lease]
export function holder({ holder: name, lease }, age) {
  const left = lease.left_ms === null ? "" : ` ${duration(Math.max(0, lease.left_ms - age))} left`;
  if (name === null || lease.state === "none") return ["bad", "none", "no primary yet"];
  switch (lease.state) {
    case "held":
      // Renewed each half second where all is well: counted down to nothing, nobody knows yet.
      if (lease.left_ms - age <= 0) return ["unknown", name, "its lease has run out, unless it was renewed just now"];
      return ["good", name, `lease${left}`];
    case "condemned":
      return ["bad", name, `${lease.by} has its power cut, lease${left}`];
    case "revoked":
      return ["bad", "none", `${name} gave its lease back`];
    case "ended":
      return ["bad", "none", `the lease of ${name} has ended`];
    case "off":
      return ["bad", "none", `${name} has no power (${lease.by})`];
    default:
      return ["unknown", name, `whether it still is, is not known: lease ${lease.state}${left}`];
  }
}

function failover({ failover: { possible, candidate, blockers, rejected } }, old) {
  const words = possible ? `possible, to ${candidate}` : "NOT possible";
  const kind = old ? "unknown" : possible ? "good" : "bad";
  return h(
    "div",
    { id: "answer-failover", class: `answer ${kind}` },
    h("p", { class: "question" }, "Failover now"),
    h("p", { class: "big" }, badge(kind, old ? `not known now; it was ${words}` : words)),
    (blockers.length > 0 || rejected.length > 0) &&
      h(
        "ul",
        { class: "reasons" },
        blockers.map((reason) => h("li", {}, code(reason.code), ` ${reason.reason}`)),
        rejected.map((reason) => h("li", {}, `not ${reason.node}: `, code(reason.code), ` ${reason.reason}`)),
      ),
    !possible && blockers.length === 0 && rejected.length === 0 && h("p", { class: "words" }, "No reason was given."),
  );
}

// What is spoken when it changes.
export function said(status) {
  const [, name] = holder(status, 0);
  const { possible, blockers } = status.failover;
  const why = blockers.map((reason) => reason.code).join(", ");
  return `Primary: ${name}. Failover ${possible ? "possible" : `not possible${why && `: ${why}`}`}.`;
}

export function title({ status, old }) {
  if (old) return `? ${status.cluster}: connection lost`;
  const [kind, name] = holder(status, 0);
  const fine = kind === "good" && status.failover.possible;
  return `${fine ? "✓" : "✕"} ${status.cluster}: primary ${name}${status.failover.possible ? "" : ", no failover"}`;
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

function counted(check) {
  if (check === null) return "not read yet";
  const blocking = check.findings.filter((finding) => finding.blocks && !finding.maintenance).length;
  const others = check.findings.length - blocking;
  const words = [blocking && `${blocking} block`, others && plural(others, "warning")].filter(Boolean).join(", ");
  if (!words) return badge("good", "none");
  return h("a", { href: "#findings-heading" }, badge(blocking ? "bad" : "warn", words));
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
    others.map((node, index) => [index ? (index === others.length - 1 ? " or " : ", ") : "", page(status, node)]),
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
