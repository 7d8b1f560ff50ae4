// The conversation: asks POST /v1/chat/completions, and shows each reply while it grows, with its checks and sources.
// It stays in this tab: in sessionStorage, which ends with the tab. Texts only ever become text nodes.

import { at, readEvents, sentenceParts, sourceName, tell } from "./panel.js";

const KEY = "talk";
const AGAIN = 0.7; // temperature of a reply that is written again: at 0 it would be the same
const NO_LIMIT = { max_question_chars: 2000, max_texts: 1000 };
let connection = null; // of page.js, once the view is offered
let limits = NO_LIMIT;
let turns = load(); // { asked, reply, emergency, told, state: "writing" | "done" | "stopped" }, the newest last
let running = null; // AbortController of the reply under way

/** Offers the view if the service has a generator. */
export function showTalk(info, pageConnection) {
  at("views").hidden = at("talk").hidden = !info.generator;
  [connection, limits] = [pageConnection, info];
}

/** Goes back to single questions. */
export function leaveTalk() {
  at("view_talk").removeAttribute("aria-current");
  at("view_ask").setAttribute("aria-current", "page");
}

function enterTalk() {
  document.body.dataset.view = "talk";
  at("view_ask").removeAttribute("aria-current");
  at("view_talk").setAttribute("aria-current", "page");
  if (!at("turns").children.length) at("turns").replaceChildren(...turns.map(turnItem));
  showButtons();
  at("talk_text").focus();
}

// ---- Storage: forbidden in some private windows, where it throws.

function load() {
  try {
    return JSON.parse(sessionStorage.getItem(KEY)) ?? [];
  } catch {
    return [];
  }
}

function keep() {
  try {
    sessionStorage.setItem(KEY, JSON.stringify(turns.filter((turn) => turn.state !== "writing")));
  } catch { // it is lost with the page
  }
}

// ---- Asking

function problem(words) {
  at("talk_problem").textContent = words;
  at("talk_text").setAttribute("aria-invalid", Boolean(words));
}

function send() {
  const asked = at("talk_text").value.trim();
  const length = [...asked].length;
  if (!asked) return problem("Write a message first.");
  if (length > limits.max_question_chars) {
    return problem(`The message has ${length} characters; this service reads at most ${limits.max_question_chars}.`);
  }
  at("talk_text").value = "";
  problem("");
  const turn = { asked, reply: "", emergency: null, told: null, state: "writing" };
  turns.push(turn);
  at("turns").append(turnItem(turn));
  reply(turn);
}

/** Writes the reply to a turn, the last one. */
async function reply(turn, sampling = {}) {
  running?.abort();
  const controller = (running = new AbortController());
  Object.assign(turn, { reply: "", emergency: null, told: null, state: "writing" });
  tell("talk_trouble_words", "");
  at("talk_trouble").hidden = true;
  at("talk_status").textContent = "Writing.";
  update(turn);
  itemOf(turn).scrollIntoView({ block: "nearest" });
  try {
    const body = { messages: messagesBefore(turn), stream: true, ...sampling };
    const response = await connection.request("v1/chat/completions", body, controller.signal);
    for await (const [, data] of readEvents(response.body)) take(turn, data);
    if (!turn.told) throw new TypeError("the stream ended before its last chunk");
    turn.state = "done";
    at("talk_status").textContent = "The reply is complete.";
  } catch (error) {
    turn.state = "stopped";
    fail(error, controller.signal.aborted);
  }
  if (running === controller) running = null;
  keep();
  update(turn);
  itemOf(turn)?.scrollIntoView({ block: "nearest" });
}

function take(turn, data) {
  if (data.error) throw Object.assign(new Error(data.error.message), { refused: true });
  const [choice] = data.choices;
  turn.reply += choice?.delta.content ?? "";
  turn.emergency ??= data.emergency; // in the first chunk
  // The whole text: of what was sent, citations of no source may be taken out.
  if (choice?.finish_reason) Object.assign(turn, { told: data, reply: data.content });
  update(turn);
}

/** Returns the conversation up to a turn; a turn whose reply was never written is left out. */
function messagesBefore(turn) {
  const earlier = turns.slice(0, turns.indexOf(turn)).filter((one) => one.reply);
  const messages = earlier.flatMap((one) => [
    { role: "user", content: one.asked },
    { role: "assistant", content: one.reply },
  ]);
  const room = Math.max(0, limits.max_texts - 1);
  return [...messages.slice(Math.max(0, messages.length - room + (room % 2))), { role: "user", content: turn.asked }];
}

function fail(error, stopped) {
  const words = stopped ? "Stopped." : error.refused ? error.message : connection.unreachable;
  at("talk_status").textContent = stopped ? words : "";
  at("talk_trouble").hidden = stopped;
  if (!stopped) tell("talk_trouble_words", words);
  if (error.status === 401) connection.onToken();
}

// ---- Showing

const itemOf = (turn) => at("turns").children[turns.indexOf(turn)];

function turnItem(turn) {
  const item = at("turn").content.cloneNode(true).firstElementChild;
  item.querySelector(".words").textContent = turn.asked;
  item.querySelector(".copy").addEventListener("click", (event) => copy(turn, event.target));
  item.querySelector(".again").addEventListener("click", () => {
    reply(turn, { temperature: AGAIN, seed: Math.floor(Math.random() * 100000) });
    at("talk_submit").focus(); // the pressed button is hidden while the reply is written
  });
  fill(item, turn);
  return item;
}

function update(turn) {
  if (itemOf(turn)) fill(itemOf(turn), turn);
  showButtons();
}

function fill(item, turn) {
  const { emergency, told, state } = turn;
  const text = item.querySelector(".reply");
  item.classList.toggle("growing", state === "writing");
  const alert = item.querySelector(".emergency");
  alert.hidden = !emergency;
  if (alert.textContent !== (emergency ?? "")) alert.textContent = emergency ?? ""; // said once, not with every piece
  const searched = told?.query == null ? null : (told.corrected ?? told.query);
  const query = searched === turn.asked ? null : searched;
  item.querySelector(".query").hidden = query === null;
  item.querySelector(".query q").textContent = query ?? "";
  const shown = emergency ? turn.reply.replace(emergency, "").trimStart() : turn.reply;
  const whole = told?.sentences?.map((sentence) => sentence.text).join("").trim();
  if (whole && shown.endsWith(whole)) {
    const parts = told.sentences.flatMap((sentence) => sentenceParts(sentence, (number) => open(item, number), told.sources));
    text.replaceChildren(shown.slice(0, shown.length - whole.length), ...parts);
  } else if (text.textContent !== shown) {
    text.textContent = shown || (state === "stopped" ? "Stopped before anything was written." : "");
  }
  item.querySelector(".foot").hidden = state === "writing";
  item.querySelector(".copy").hidden = !turn.reply;
  if (state === "writing") item.querySelector(".copy").textContent = "Copy"; // it said that another text was copied
  showSources(item, told);
}

/** Lists the sources of a reply, closed; none if no stored answer was near. */
function showSources(item, told) {
  const part = item.querySelector(".turn_sources");
  const sources = told?.answerable ? told.sources : [];
  part.hidden = !sources.length;
  part.querySelector("summary").textContent = `${sources.length} source${sources.length === 1 ? "" : "s"}`;
  if (part.querySelector("ol").children.length === sources.length) return;
  part.querySelector("ol").replaceChildren(...sources.map((told) => {
    const line = document.createElement("li");
    const details = document.createElement("details");
    const make = (name, className, textContent) => Object.assign(document.createElement(name), { className, textContent, dir: "auto" });
    const origin = [told.focus, told.source].filter(Boolean).join(" · ");
    details.append(make("summary", "", sourceName(told)), make("p", "text", told.answer), make("p", "origin", origin));
    line.append(details);
    return line;
  }));
}

function open(item, number) {
  item.querySelector(".turn_sources").open = true;
  const details = item.querySelectorAll(".turn_sources details")[number - 1];
  details.open = true;
  details.querySelector("summary").focus();
}

/** Only the last reply can be written again; while one is written, the button stops it. */
function showButtons() {
  at("talk_submit").textContent = running ? "Stop" : "Send";
  at("talk_reset").disabled = !turns.length;
  [...at("turns").children].forEach((item, i) => (item.querySelector(".again").hidden = i < turns.length - 1));
}

async function copy(turn, button) {
  const text = [turn.reply, turn.told?.disclaimer].filter(Boolean).join("\n\n");
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch { // no clipboard without https, or not allowed
    getSelection().selectAllChildren(button.closest(".turn").querySelector(".reply"));
    button.textContent = "Selected: copy it with the keyboard";
  }
  at("talk_status").textContent = button.textContent;
}

// ---- What people do

at("view_talk").addEventListener("click", enterTalk);
at("view_ask").addEventListener("click", () => at("home").click());
at("talk_form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!running) send();
});
at("talk_submit").addEventListener("click", (event) => {
  if (!running) return;
  event.preventDefault(); // the button says Stop
  running.abort();
});
at("talk_text").addEventListener("input", () => problem(""));
at("talk_text").addEventListener("keydown", (event) => {
  if (event.key === "Escape") running?.abort();
  const composing = event.isComposing || event.keyCode === 229; // Enter ends a Chinese or Japanese word
  if (event.key !== "Enter" || event.shiftKey || composing) return;
  event.preventDefault();
  if (!running) send();
});
at("talk_retry").addEventListener("click", () => {
  reply(turns.at(-1));
  at("talk_submit").focus();
});
at("talk_reset").addEventListener("click", () => {
  running?.abort();
  turns = [];
  keep();
  at("turns").replaceChildren();
  at("talk_trouble").hidden = true;
  showButtons();
  at("talk_text").focus();
});
