// The panel of triage: asks POST /v1/triage, and shows the likeliest departments, the emergency advice before them.
// The service has it only with a triage model. Texts only ever become text nodes.

const at = (id) => document.getElementById(id);
const FIND = "Find the department";
const percent = new Intl.NumberFormat("en", { style: "percent", maximumFractionDigits: 0 });
let ask = null; // the request function of page.js, once the panel is shown
let words = {};
let most = 0; // characters
let drafts = false; // whether the model drafts replies
let running = null; // AbortController of the request under way

/** Shows the panel if the service has a triage model. */
export function showTriage(info, request, options) {
  at("triage").hidden = !info.triage;
  drafts = info.triage_reply;
  [ask, words, most] = [request, options, info.max_question_chars];
}

function problem(text) {
  at("complaint_problem").textContent = text;
}

async function triage() {
  const text = at("complaint").value.trim();
  if (!text) return problem("Describe the complaint first.");
  const length = [...text].length; // an emoji is one character
  if (length > most) return problem(`The text has ${length} characters; this service reads at most ${most}.`);
  problem("");
  at("triaged").hidden = true; // what was said of another text
  at("draft").replaceChildren();
  const result = await send({ text }, at("triage_submit"));
  if (result) show(text, result);
}

/** Returns the answer of the service; null if there is none, which is said. A new request replaces the one before. */
async function send(body, button) {
  running?.abort();
  const controller = (running = new AbortController());
  if (button) button.textContent = "Looking ...";
  try {
    return await (await ask("v1/triage", body, controller.signal)).json();
  } catch (error) {
    if (controller.signal.aborted) return null;
    problem(error.refused ? error.message : words.unreachable);
    if (error.status === 401) words.onToken();
    return null;
  } finally {
    if (button && running === controller) button.textContent = FIND;
  }
}

function show(text, result) {
  at("triage_advice").hidden = !result.advice;
  at("triage_advice").textContent = result.advice ?? "";
  at("triage_note").hidden = !result.note;
  at("triage_note").textContent = result.note ?? "";
  at("departments").replaceChildren(...result.departments.map(department));
  at("draft").replaceChildren(...(drafts ? [folded(text)] : []));
  at("triage_disclaimer").textContent = result.disclaimer;
  at("triaged").hidden = false;
}

function department({ label, prob }) {
  const item = at("department").content.cloneNode(true);
  item.querySelector(".name").textContent = label;
  item.querySelector("meter").value = prob;
  item.querySelector(".number").textContent = percent.format(prob);
  return item;
}

/** Returns the folded draft of a reply. It takes seconds, so it is written when somebody opens it. */
function folded(complaint) {
  const part = at("draft_reply").content.cloneNode(true);
  const [details, text] = [part.querySelector("details"), part.querySelector(".text")];
  details.addEventListener("toggle", async () => {
    if (!details.open || text.textContent) return;
    text.textContent = "Writing ...";
    const result = await send({ text: complaint, reply: true });
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
