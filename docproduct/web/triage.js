// The panel of triage: asks POST /v1/triage, and shows the likeliest departments, the emergency advice before them.
// The service has it only with a triage model. Texts only ever become text nodes.

import { at, bar, sender, tell } from "./panel.js";

let connection = null; // of page.js, once the panel is shown
let most = 0; // characters
let drafts = false; // whether the model drafts replies

/** Shows the panel if the service has a triage model. */
export function showTriage(info, pageConnection) {
  at("triage").hidden = !info.triage;
  drafts = info.triage_reply;
  [connection, most] = [pageConnection, info.max_question_chars];
}

function problem(text) {
  at("complaint_problem").textContent = text;
}

const send = sender("v1/triage", problem);

async function triage() {
  const text = at("complaint").value.trim();
  if (!text) return problem("Describe the complaint first.");
  const length = [...text].length; // an emoji is one character
  if (length > most) return problem(`The text has ${length} characters; this service reads at most ${most}.`);
  problem("");
  at("triaged").hidden = true; // what was said of another text
  at("draft").replaceChildren();
  const result = await send(connection, { text }, at("triage_submit"));
  if (result) show(text, result);
}

function show(text, result) {
  tell("triage_advice", result.advice);
  tell("triage_note", result.note);
  at("departments").replaceChildren(...result.departments.map(({ label, prob }) => bar(label, prob)));
  at("draft").replaceChildren(...(drafts ? [folded(text)] : []));
  at("triage_disclaimer").textContent = result.disclaimer;
  at("triaged").hidden = false;
}

/** Returns the folded draft of a reply. It takes seconds, so it is written when somebody opens it. */
function folded(complaint) {
  const part = at("draft_reply").content.cloneNode(true);
  const [details, text] = [part.querySelector("details"), part.querySelector(".text")];
  details.addEventListener("toggle", async () => {
    if (!details.open || text.textContent) return;
    text.textContent = "Writing ...";
    const result = await send(connection, { text: complaint, reply: true });
    text.textContent = result ? result.reply || "It wrote nothing." : "";
    if (!result) details.open = false;
  });
  return details;
}

at("complaint_form").addEventListener("submit", (event) => {
  event.preventDefault();
  triage();
});
at("complaint").addEventListener("input", () => problem(""));
