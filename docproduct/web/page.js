// The page of docproduct: asks POST /v1/answer, shows the answer as it is written, and its sources.
// Texts of people and of the index only ever become text nodes: nothing here parses HTML.
// Questions stay out of the address, and out of storage that outlives the tab.

import { showChoices } from "./choices.js";
import { at, readEvents, sentenceParts, sourceName, tell } from "./panel.js";
import { leaveTalk, showTalk } from "./talk.js";
import { showTriage } from "./triage.js";

const info = { num_answers: 0, generator: false, max_k: 50, max_question_chars: 2000, examples: [], sources: [], disclaimer: "" };
const entries = []; // what was asked since the page was loaded, the newest last
let shown = null; // the entry on the page; null at the start
let running = null; // AbortController of the request under way
let keptToken = ""; // where sessionStorage is forbidden

// ---- Storage: forbidden in some private windows, where it throws.

function stored(storage, key, value) {
  try {
    if (value !== undefined) window[storage].setItem(key, value);
    return window[storage].getItem(key);
  } catch {
    return null;
  }
}

// ---- Requests

const UNREACHABLE = "The service cannot be reached. See that it runs, then try again.";
const refusal = (words, status) => Object.assign(new Error(words), { refused: true, status });
const token = () => stored("sessionStorage", "token") || keptToken;

async function request(path, body, signal) {
  const headers = {};
  if (token()) headers.Authorization = `Bearer ${token()}`;
  if (body) headers["Content-Type"] = "application/json";
  const response = await fetch(path, {
    method: body ? "POST" : "GET", headers, signal, cache: "no-store", body: body && JSON.stringify(body),
  });
  if (response.ok) return response;
  const sent = await response.json().catch(() => null); // a proxy's error page is not JSON
  let words = sent?.error?.message || `The service answered with error ${response.status}.`;
  if (response.status === 401) words = "The service asks for an access token before it answers.";
  const wait = Number(response.headers.get("Retry-After"));
  if (wait > 0 && !/try again/i.test(words)) words += ` You can try again in ${count(wait, "second")}.`;
  throw refusal(words, response.status);
}

// ---- One question

function newEntry(question, correct) {
  const settings = { k: Number(at("k").value), search_by: at("ask").elements.search_by.value, correct };
  if (at("collection").value) settings.filter = { source: at("collection").value };
  if (info.generator) {
    settings.generate = at("generate").checked;
    settings.only_supported = at("only_supported").checked;
    settings.temperature = Number(at("temperature").value);
    // The seed is shown with the answer, so that a drawn answer can be had again.
    if (settings.temperature > 0) settings.seed = Math.floor(Math.random() * 100000);
  }
  const empty = { state: "searching", result: null, written: "", trouble: "", unfolded: false };
  return { id: Date.now(), question, settings, ...empty };
}

/** Asks; `entry.state` goes searching -> writing -> done, or to ended with `entry.trouble`, keeping what has come. */
async function run(entry) {
  running?.abort();
  const controller = (running = new AbortController());
  Object.assign(entry, { state: "searching", result: null, written: "", trouble: "", needsToken: false });
  show(entry);
  announce("Searching.");
  try {
    const body = { question: entry.question, ...entry.settings, stream: true };
    const response = await request("v1/answer", body, controller.signal);
    if (response.headers.get("Content-Type")?.includes("event-stream")) await follow(entry, response.body);
    else finish(entry, await response.json());
    if (entry.state !== "done") throw new TypeError("the stream ended before its last event");
  } catch (error) {
    fail(entry, error, controller.signal.aborted);
  }
  if (running === controller) running = null;
  update(entry);
  if (entry.needsToken) askForToken();
  else if (!info.loaded && entry.state === "done") loadInfo();
}

async function follow(entry, stream) {
  for await (const [event, data] of readEvents(stream)) {
    if (event === "answer") {
      Object.assign(entry, { state: "writing", result: data });
      update(entry);
      announce(`${searchedFor(data)}${count(data.sources.length, "source")} found.${willWrite(entry) ? " Writing the answer." : ""}`);
    }
    if (event === "text") {
      entry.written += data.text;
      if (entry === shown) showWritten(entry);
    }
    if (event === "done") return finish(entry, data);
    if (event === "error") throw refusal(data.error?.message || "The service failed while it answered.");
  }
}

function finish(entry, result) {
  Object.assign(entry, { state: "done", result, written: result.generated || "" });
  if (entry !== shown) return;
  announce(
    searchedFor(result) +
      (result.answerable ? `The answer is complete, with ${count(result.sources.length, "source")}.` : result.answer),
  );
}

function fail(entry, error, stopped) {
  const lost = entry.result ? "The answer ended early: the connection was lost." : UNREACHABLE;
  const words = stopped ? "Stopped." : error.refused ? error.message : lost;
  entry.state = "ended";
  entry.trouble = words + (entry.result ? " What came before it is kept." : "");
  entry.needsToken = error.status === 401;
}

const count = (number, noun) => `${number} ${noun}${number === 1 ? "" : "s"}`;
const willWrite = (entry) => info.generator && entry.settings.generate !== false && entry.result.answerable;
const searchedFor = ({ corrected }) => (corrected ? `Searched for ${corrected}. ` : "");
const announce = (words) => (at("status").textContent = words);

// ---- Showing an entry

/** Puts an entry on the page, or the start if it is null. */
function show(entry) {
  shown = entry;
  leaveTalk();
  document.body.dataset.view = entry ? "answer" : "start";
  at("answer").hidden = !entry;
  at("examples").hidden = Boolean(entry) || !info.examples.length;
  at("sources").querySelector("ol").replaceChildren();
  problem("");
  announce("");
  showEarlier();
  document.title = "docproduct"; // not the question: titles are kept in the browser's history
  if (!entry) return at("question").focus();
  at("question").value = entry.question;
  at("question").scrollTop = 0;
  at("answer_title").textContent = `Answer to: ${entry.question}`;
  update(entry);
  at("answer").focus({ preventScroll: true });
  scrollTo({ top: 0 });
}

/** Brings the page up to date with the entry's state; sources that stand already stay, open or closed. */
function update(entry) {
  const busy = running !== null;
  document.body.classList.toggle("busy", busy);
  at("submit").textContent = busy ? "Stop" : "Ask";
  if (entry !== shown) return;
  const { state, result } = entry;
  const writes = Boolean(entry.written) || (state === "writing" && willWrite(entry));
  at("waiting").hidden = state !== "searching";
  at("written").hidden = !writes;
  at("written").classList.toggle("growing", state === "writing");
  at("quoted").hidden = !result?.answerable;
  at("far").hidden = !result || result.answerable;
  at("trouble").hidden = !entry.trouble;
  at("foot").hidden = !result || state === "writing";
  at("sources").hidden = !result?.sources.length;
  at("trouble_words").textContent = entry.trouble;
  tell("emergency", result?.emergency);
  showWritten(entry);
  at("corrected").hidden = !result?.corrected;
  at("corrected_question").textContent = result?.corrected ?? "";
  if (!result) return;
  disclaim(result.disclaimer);
  const read = result.sources.some((source) => source.in_prompt);
  at("from_marked").hidden = !read;
  at("from_nearest").hidden = read || result.question_shortened; // it has left no room for them
  at("shortened").hidden = !result.question_shortened;
  if (result.answerable && at("quoted_text").dataset.entry !== String(entry.id)) showQuoted(entry);
  at("far_words").textContent = result.answer;
  showMeant(result.suggestions ?? []);
  at("copy").textContent = "Copy answer";
  at("copy").hidden = !result.answerable;
  showRate(entry);
  at("timings").textContent = timings(entry);
  showSources(entry);
}

/** Shows the text as it grows; when it is complete and checked, each sentence with its sources or a doubt. */
function showWritten(entry) {
  const place = at("written_text");
  const isFolded = entry.result?.supported === false && !entry.unfolded;
  place.hidden = isFolded;
  at("unfold_written").hidden = !isFolded;
  at("support").textContent = supportWords(entry, isFolded);
  if (entry.state === "done" && entry.result?.sentences?.length) {
    const { sentences, sources } = entry.result;
    place.replaceChildren(...sentences.flatMap((sentence) => sentenceParts(sentence, openSource, sources)));
    return;
  }
  const before = place.textContent;
  if (entry.written === before) return;
  if (before && entry.written.startsWith(before)) place.append(entry.written.slice(before.length));
  else place.textContent = entry.written;
}

function supportWords({ state, result }, isFolded) {
  if (state !== "done" || !result?.sentences) return "";
  const left = result.num_left_out;
  const words = [];
  const statements = result.sentences.filter((sentence) => sentence.checkable);
  const found = statements.filter((sentence) => sentence.supported).length;
  const all = statements.length;
  if (found === all && all) words.push(all === 1 ? "What it says is in them." : `All ${all} statements are in them.`);
  else if (all) words.push(`Of ${count(all, "statement")}, ${found} ${found === 1 ? "is" : "are"} in them.`);
  if (isFolded) words.push("So it is not shown at once.");
  if (left) words.push(`${count(left, "sentence")} without support ${left === 1 ? "was" : "were"} left out.`);
  return words.join(" ");
}

/** Opens a source of the answer. */
function openSource(number) {
  const details = at("sources").querySelectorAll("details")[number - 1];
  details.open = true;
  details.querySelector("summary").focus();
}

function showQuoted({ id, question, result }) {
  at("quoted_text").dataset.entry = id;
  const [best] = result.sources;
  at("quoted_pair").hidden = Boolean(best?.place);
  at("quoted_passage").hidden = !best?.place;
  at("quoted_question").textContent = best?.question ?? question;
  at("quoted_place").textContent = best?.place ?? "";
  at("quoted_text").replaceChildren(marked(result.answer, termsOf(result.corrected ?? question)));
  fold(at("quoted_text"));
}

function showSources({ question, result }) {
  const list = at("sources").querySelector("ol");
  if (!list.children.length) {
    const terms = termsOf(result.corrected ?? question);
    list.replaceChildren(...result.sources.map((source, i) => sourceItem(source, i + 1, terms)));
  }
  // The prompt is known only when the answer is written.
  [...list.children].forEach((item, i) => (item.querySelector(".dot").hidden = !result.sources[i]?.in_prompt));
}

function sourceItem(source, place, terms) {
  const item = at("source").content.cloneNode(true).firstElementChild;
  const text = item.querySelector(".text");
  item.querySelector(".place").textContent = place;
  item.querySelector(".name").append(marked(sourceName(source), terms));
  item.querySelector(".number").textContent = source.score.toFixed(2);
  item.querySelector("meter").value = source.score;
  item.querySelector(".origin").textContent = [source.focus, source.source].filter(Boolean).join(" · ");
  text.append(marked(source.answer, terms));
  item.querySelector("details").addEventListener("toggle", () => fold(text));
  return item;
}

/** Gives a long text a button that unfolds it; measured, so the text must be visible. */
function fold(text) {
  if (text.nextElementSibling?.matches(".unfold")) text.nextElementSibling.remove();
  text.classList.remove("open");
  if (text.scrollHeight <= text.clientHeight + 2) return;
  const button = Object.assign(document.createElement("button"), { type: "button", className: "link unfold" });
  const name = () => {
    const open = text.classList.contains("open");
    button.textContent = open ? "Show less" : "Show all of it";
    button.setAttribute("aria-expanded", open);
  };
  button.addEventListener("click", () => { text.classList.toggle("open"); name(); });
  name();
  text.after(button);
}

function timings({ result, settings }) {
  const spent = { encode: "encoded", search: "searched", write: "written" };
  const words = Object.entries(result.seconds ?? {}).filter(([step, time]) => spent[step] && time > 0)
    .map(([step, time]) => `${spent[step]} in ${time < 1 ? `${Math.ceil(time * 1000)} ms` : `${time.toFixed(1)} s`}`);
  const { temperature, seed } = settings;
  if (result.generated && temperature) words.push(`temperature ${temperature}, seed ${seed}`);
  return words.join(" · ");
}

/** Offers the topics that may have been meant; each asks a stored question. */
function showMeant(suggestions) {
  at("meant").hidden = !suggestions.length;
  listQuestions("meant", suggestions.map(({ topic, question }) => [topic, () => ask(question)]));
}

function showEarlier() {
  const others = entries.filter((entry) => entry !== shown).reverse();
  at("earlier").hidden = !others.length;
  listQuestions("earlier", others.map((entry) => [entry.question, () => goTo(entry)]));
}

function listQuestions(id, questions) {
  at(id).querySelector("ul").replaceChildren(...questions.map(([textContent, onclick]) => {
    const item = document.createElement("li");
    item.append(Object.assign(document.createElement("button"), { type: "button", dir: "auto", textContent, onclick }));
    return item;
  }));
}

// ---- Matching words

const STOP_WORDS = new Set((
  "a about after all also am an and any are as at be because been before being but by can could did do does for from get " +
  "had has have how i if in into is it its may me my of on or our should so some than that the their them then there these " +
  "they this to was we were what when where which while who why will with would you your"
).split(" "));
const CHINESE_STOP_WORDS = /为什么|怎么办|什么|怎么|怎样|如何|哪些|哪里|可以|应该|是否|[的了吗呢是有和与在我你吧]/u;
const WORDS = /[\p{sc=Han}\p{sc=Hira}\p{sc=Kana}ー]+|[\p{L}\p{N}\p{M}]+(?:['’]\p{L}+)*/gu;
const UNSPACED = /^[\p{sc=Han}\p{sc=Hira}\p{sc=Kana}ー]/u;

/** One form for a word's capitals, accents, possessive and plural. */
function normal(word) {
  const plain = word.replace(/['’].*$/u, "").normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();
  return plain.length > 3 ? plain.replace(/s$/, "") : plain;
}

/** What to mark: words in normal form, and an expression for texts in Chinese and Japanese, which write no spaces. */
function termsOf(question) {
  const words = new Set();
  const parts = [];
  for (const [word] of question.matchAll(WORDS)) {
    if (!UNSPACED.test(word)) {
      if (!STOP_WORDS.has(word.toLowerCase())) words.add(normal(word));
      continue;
    }
    for (const run of word.split(CHINESE_STOP_WORDS).filter(Boolean)) {
      const [first, ...rest] = run;
      if (!rest.length) parts.push(first);
      // Two neighbours of the question count where they are neighbours in the text: pairs may overlap.
      rest.forEach((next, i) => {
        const last = rest[i - 1] ?? first;
        parts.push(`${last}(?=${next})`, `(?<=${last})${next}`);
      });
    }
  }
  return { words, unspaced: new RegExp(parts.length ? `(?:${parts.join("|")})+` : "(?!)", "gu") };
}

/** Returns the text as a fragment in which the terms stand in <mark>. */
function marked(text, terms) {
  const fragment = document.createDocumentFragment();
  let end = 0;
  const mark = (from, word) => {
    fragment.append(text.slice(end, from), Object.assign(document.createElement("mark"), { textContent: word }));
    end = from + word.length;
  };
  for (const { 0: word, index } of text.matchAll(WORDS)) {
    if (UNSPACED.test(word)) for (const part of word.matchAll(terms.unspaced)) mark(index + part.index, part[0]);
    else if (terms.words.has(normal(word))) mark(index, word);
  }
  fragment.append(text.slice(end));
  return fragment;
}

// ---- What people do

function ask(question = at("question").value.trim(), { correct = true } = {}) {
  const length = [...question].length; // characters as Python counts them
  const most = info.max_question_chars;
  if (!question) return problem("Write a question first.");
  if (length > most) {
    const words = `The question has ${length} characters, and this service reads at most ${most}.`;
    return problem(`${words} Leave out ${length - most}.`);
  }
  const entry = newEntry(question, correct);
  entries.push(entry);
  history.pushState({ id: entry.id }, ""); // so that Back goes to the question before; the address stays as it is
  run(entry);
}

/** Goes to an earlier entry, or to the start; what is being written for another one is stopped. */
function goTo(entry, { isNew = true } = {}) {
  if (isNew) history.pushState({ id: entry?.id }, "");
  running?.abort();
  show(entry);
}

function problem(words) {
  at("problem").textContent = words;
  at("question").setAttribute("aria-invalid", Boolean(words));
  if (words) at("question").focus({ preventScroll: true });
  if (words) at("problem").scrollIntoView({ block: "nearest" });
}

function disclaim(words) {
  const kept = info.feedback ? " This service keeps ratings, and questions that it cannot answer." : "";
  at("disclaimer").textContent = words + kept;
}

/** Asks whether the answer helped, if the service keeps ratings. */
function showRate({ result, rated, rating }) {
  at("rate").hidden = !info.feedback || !result.answerable;
  at("rate_words").textContent = rated ?? "Did this help?";
  for (const id of ["helped", "missed"]) at(id).hidden = Boolean(rating);
}

async function rate(helpful) {
  const entry = shown;
  if (entry.rating) return; // a second click
  entry.rating = true;
  try {
    await request("v1/feedback", { question: entry.question, id: entry.result.sources[0].id, helpful });
    entry.rated = "Thank you, it is noted.";
  } catch (error) {
    entry.rating = false;
    entry.rated = error.refused ? error.message : UNREACHABLE;
  }
  if (entry === shown) showRate(entry);
  announce(entry.rated);
}

async function copyAnswer() {
  const { written, result } = shown;
  const shows = written && !at("written_text").hidden;
  const [best] = result.sources;
  const quoted = best?.place ? `${result.answer}\n\n${best.place} (${best.source})` : result.answer;
  const text = [quoted, ...(shows ? ["Written by a machine:", written] : []), result.disclaimer].join("\n\n");
  try {
    await navigator.clipboard.writeText(text);
    at("copy").textContent = "Copied";
  } catch { // no clipboard without https, or not allowed
    getSelection().selectAllChildren(at("quoted_text"));
    at("copy").textContent = "Selected: copy it with the keyboard";
  }
  announce(at("copy").textContent);
}

function askForToken() {
  if (token()) at("token_words").textContent = "That token was not accepted.";
  at("token_form").hidden = false;
  at("token").select();
  at("token").focus();
}

function otherTheme() {
  const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  return (document.documentElement.dataset.theme || system) === "dark" ? "light" : "dark";
}

function setTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  at("theme_words").textContent = otherTheme() === "light" ? "Light colours" : "Dark colours";
}

/** Lists the collections to choose from, if there are several. */
function listSources() {
  const chosen = at("collection").value;
  at("collection").replaceChildren(new Option("All", ""), ...info.sources.map((name) => new Option(name, name)));
  at("collection").value = info.sources.includes(chosen) ? chosen : "";
  at("collections").hidden = info.sources.length < 2;
}

async function loadInfo() {
  try {
    Object.assign(info, await (await request("v1/info")).json(), { loaded: true });
  } catch (error) {
    if (error.status === 401) return askForToken();
    return problem(error.refused ? error.message : UNREACHABLE);
  }
  at("token_form").hidden = true;
  problem("");
  listSources();
  at("k").max = Math.max(1, Math.min(info.max_k, info.num_answers));
  at("k_value").value = at("k").value; // a smaller greatest value takes it along
  for (const part of document.querySelectorAll(".writer")) part.hidden = !info.generator;
  const what = info.generator ? "A language model writes from the nearest" : "The nearest is quoted";
  at("search_by").hidden = !info.search_by?.includes("question");
  at("about").textContent = `Your question is compared with ${stock()}. ${what}, and every source is shown.`;
  disclaim(info.disclaimer);
  const connection = { request, unreachable: UNREACHABLE, onToken: askForToken };
  showTriage(info, connection);
  showChoices(info, connection);
  showTalk(info, connection);
  if (!info.num_answers) showPanelsOnly();
  at("examples").hidden = shown !== null || !info.examples.length;
  listQuestions("examples", info.examples.map((question) => [question, () => ask(question)]));
}

/** Returns what a question is compared with; passages are of documents, stored answers of pairs. */
function stock() {
  const { num_answers: all, num_documents: documents, search_by: sides } = info;
  const kind = !documents ? "stored answer" : sides.includes("question") ? "stored answer and passage" : "passage";
  const words = `${all.toLocaleString("en")} ${kind.replace(/\b(answer|passage)\b/g, all === 1 ? "$1" : "$1s")}`;
  return documents ? `${words} of ${count(documents, "document")}` : words;
}

/** Leaves the panels of other systems only: there are no stored answers to search. */
function showPanelsOnly() {
  at("title").textContent = "Ask the models below.";
  at("about").textContent = "This service has no stored answers to search.";
  at("ask").hidden = true;
  document.querySelector(".panel:not([hidden]) textarea").focus();
}

// ---- Wiring

setTheme(stored("localStorage", "theme"));
at("theme").addEventListener("click", () => {
  setTheme(otherTheme());
  stored("localStorage", "theme", document.documentElement.dataset.theme);
});
at("ask").addEventListener("submit", (event) => { event.preventDefault(); ask(); });
at("submit").addEventListener("click", (event) => {
  if (!running) return;
  event.preventDefault(); // the button says Stop
  running.abort();
});
at("question").addEventListener("input", () => problem(""));
at("question").addEventListener("keydown", (event) => {
  const composing = event.isComposing || event.keyCode === 229; // Enter ends a Chinese or Japanese word
  if (event.key !== "Enter" || event.shiftKey || composing) return;
  event.preventDefault();
  ask();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") running?.abort();
  const typing = event.target.matches("input, textarea");
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || typing) return;
  event.preventDefault();
  const box = at(document.body.dataset.view === "talk" ? "talk_text" : "question");
  box.focus();
  box.select();
});
at("settings_button").addEventListener("click", () => {
  at("settings").hidden = !at("settings").hidden;
  at("settings_button").setAttribute("aria-expanded", !at("settings").hidden);
});
at("k").addEventListener("input", () => (at("k_value").value = at("k").value));
at("temperature").addEventListener("input", () => {
  at("temperature_value").value = Number(at("temperature").value).toFixed(1);
});
at("token_form").addEventListener("submit", async (event) => {
  event.preventDefault();
  keptToken = at("token").value.replace(/[^\x21-\x7e]/g, ""); // what a header can carry
  stored("sessionStorage", "token", keptToken);
  await loadInfo();
  if (info.loaded && shown?.needsToken) run(shown);
});
at("retry").addEventListener("click", () => run(shown));
at("as_typed").addEventListener("click", () => ask(shown.question, { correct: false }));
at("copy").addEventListener("click", copyAnswer);
at("helped").addEventListener("click", () => rate(true));
at("missed").addEventListener("click", () => rate(false));
at("unfold_written").addEventListener("click", () => {
  shown.unfolded = true;
  showWritten(shown);
});
at("home").addEventListener("click", (event) => {
  if (event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  at("question").value = "";
  goTo(null);
});
window.addEventListener("popstate", (event) => {
  goTo(entries.find((entry) => entry.id === event.state?.id) ?? null, { isNew: false });
});

at("question").focus();
loadInfo();
