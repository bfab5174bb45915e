// The four answers on top, in the order in which they are asked at night: is mail served, by whom, could another take
// over, and what is there to do.
import { h } from "./dom.js";
import { badge, clock, code, duration, plural } from "./words.js";

const TO_DO = 4; // more would hide which is first
// What ends a blocker, where that is a person's to do or only takes time; all others say enough by their reason.
const ENDS = {
  BLK_FENCE: "cut its power, then failoverctl confirm-fenced",
  BLK_FLAPPING: "find out why the role moved so often, then failoverctl acknowledge",
  BLK_HOLD_OFF: "wait, it ends by itself",
  BLK_PAUSED: "failoverctl resume, once the work is done",
  BLK_REQUEST: "wait for the request that is under way",
  BLK_RPO_UNPROVEN: "bring back a replica that acknowledges",
};

function answer({ id, question, kind, words, old, was }, ...more) {
  const shown = old ? "unknown" : kind;
  return h(
    "div",
    { id: `answer-${id}`, class: `answer ${shown}` },
    h("h3", { class: "question" }, question),
    h("p", { class: "big" }, badge(shown, old ? `not known now; it was ${was ?? words}` : words)),
    more,
  );
}

// ---- is mail served

// [kind, words, what is wrong]: by the lease, then by what the primary says of itself and the others say of it.
export function serving(status, age) {
  const [kind, name, words] = holder(status, age);
  if (kind === "bad") return ["bad", "NOT served", [words]];
  if (kind !== "good") return ["unknown", "not known", [words]];
  const node = status.nodes.find((one) => one.name === name);
  if (!node?.fresh) return ["unknown", "not known", [`${name} is silent, and its lease still runs`]];
  const services = Object.entries(node.services).sort();
  const of = (verdict) => services.filter(([, one]) => one.verdict === verdict).map(([service]) => `${service} ${verdict}`);
  const down = of("down");
  const wrong = [
    node.serving === false && "its gate is closed",
    node.vip?.present === false && "it has not the virtual IP",
    ...down,
  ].filter(Boolean);
  if (wrong.length > down.length || (down.length > 0 && down.length === services.length)) return ["bad", "NOT served", wrong];
  if (down.length > 0) return ["bad", "only in part", wrong];
  const doubtful = [...of("degraded"), ...of("unknown")];
  return [doubtful.length ? "warn" : "good", `served by ${name}`, doubtful];
}

export function mail({ status, old, age }) {
  const [kind, words, wrong] = serving(status, old ? 0 : age);
  const node = status.nodes.find((one) => one.name === status.holder);
  const up = node && Object.entries(node.services).filter(([, { verdict }]) => verdict === "up").map(([service]) => service).sort();
  const said = wrong.length > 0 ? wrong.join(", ") : up?.length > 0 ? `${up.join(" and ")} up, through the virtual IP` : "";
  return answer({ id: "mail", question: "Mail", kind, words, old }, said && h("p", { class: "words" }, said));
}

// ---- by whom

export function primary({ status, old, age, heardAt }) {
  const [kind, name, words] = holder(status, old ? 0 : age);
  return answer(
    { id: "primary", question: "Primary", kind, words: name, old },
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

// ---- could another take over

export function failover({ status: { failover: { possible, candidate, blockers, rejected } }, old }) {
  const words = possible ? `possible, to ${candidate}` : "NOT possible";
  return answer(
    { id: "failover", question: "Failover now", kind: possible ? "good" : "bad", words, old },
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

// ---- what is there to do

// [words, code] in the order in which to do it: the case as a whole, what cannot be seen, what blocks the role, and what
// keeps one node from taking it.
function steps(status, check, age) {
  const [kind] = serving(status, age);
  const { possible, candidate, blockers } = status.failover;
  const found = [];
  if (kind === "bad" && possible) found.push([`wait some seconds: ${candidate} should take over`, "PRIMARY_LOST"]);
  else if (kind === "bad") found.push(["remove what blocks the failover", "FAILOVER_BLOCKED"]);
  else if (!possible && blockers.length === 0) found.push(["bring one replica in order", "NO_CANDIDATE"]);
  for (const one of check.unseen) {
    if (one.code === "BLK_UNREACHABLE") found.push([`${one.node} is silent: bring it back`, one.code]);
    else if (one.code === "BLK_STORE") found.push([`bring back the store${one.node && ` on ${one.node}`}`, one.code]);
    else found.push([one.reason, one.code]);
  }
  const named = new Set(found.map(([, name]) => name));
  for (const one of blockers) if (!named.has(one.code)) found.push([ENDS[one.code] ?? one.reason, one.code]);
  for (const one of check.findings) if (one.blocks && !one.maintenance) found.push([`${one.node}: ${one.fix}`, one.code]);
  return found;
}

export function todo({ status, check, old, age }) {
  const question = "What to do";
  if (check === null) return answer({ id: "do", question, kind: "unknown", words: "not known", old, was: "not known" });
  const found = steps(status, check, age);
  const warnings = check.findings.filter((one) => !one.blocks && !one.maintenance).length;
  const rest = [found.length > TO_DO && `${found.length - TO_DO} more`, warnings > 0 && plural(warnings, "warning")];
  const more = rest.filter(Boolean).join(" and ");
  const words = found.length > 0 ? plural(found.length, "step") : warnings > 0 ? "nothing urgent" : "nothing";
  const kind = found.length > 0 ? (status.failover.possible ? "warn" : "bad") : "good";
  return answer(
    { id: "do", question, kind, words, old },
    found.length > 0 &&
      h("ol", { class: "reasons steps" }, found.slice(0, TO_DO).map(([what, name]) => h("li", {}, what, " ", code(name)))),
    more && h("p", { class: "words" }, h("a", { href: "#findings-heading" }, more), " below"),
  );
}

// ---- the same for ears, and for a tab

// What is spoken when it changes.
export function said(status) {
  const [, name] = holder(status, 0);
  const [, served, wrong] = serving(status, 0);
  const { possible, blockers } = status.failover;
  const why = blockers.map((reason) => reason.code).join(", ");
  const how = `Mail: ${served}${wrong.length && served !== "not known" ? `: ${wrong.join(", ")}` : ""}.`;
  return `${how} Primary: ${name}. Failover ${possible ? "possible" : `not possible${why && `: ${why}`}`}.`;
}

export function title({ status, old }) {
  if (old) return `? ${status.cluster}: connection lost`;
  const [, name] = holder(status, 0);
  const [kind, words] = serving(status, 0);
  const troubles = [kind !== "good" && kind !== "warn" && `mail ${words}`, !status.failover.possible && "no failover"].filter(Boolean);
  return `${troubles.length ? "✕" : "✓"} ${status.cluster}: primary ${name}${troubles.map((one) => `, ${one}`).join("")}`;
}
